"""Long-lived connections: exec, attach and port-forward over WebSocket, SPDY, and SPDY inside WebSocket.

    backend.py          what the node has to offer: processes and connections
    spdy.py             SPDY/3.1 framing, sans I/O
    websocket.py        a WebSocket on a connection that HTTP has given up
    transports.py       both as one thing: numbered channels with backpressure
    remote_command.py   exec and attach over any of them
    port_forward.py     port-forward over any of them
    negotiation.py      which protocol a client asks for, and the answer

Clients differ by age (KEP-4006): kubectl from 1.31 on speaks WebSocket and tunnels SPDY through it for port-forward;
older ones, and every Go program that uses the SPDY executor, upgrade to SPDY itself.
"""
