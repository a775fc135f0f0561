"""Long-lived connections: exec, attach and port-forward over WebSocket, SPDY, and SPDY inside WebSocket.

    backend.py          what the node has to offer: processes and connections
    link.py             a connection that HTTP has given up, with backpressure both ways
    spdy.py             SPDY/3.1 framing, sans I/O
    websocket.py        WebSocket framing on such a connection
    channels.py         either of them as numbered channels
    pipes.py            a process's descriptors on the event loop
    remote_command.py   exec and attach: a process and a client's channels
    port_forward.py     connections into a pod, over either of them
    negotiation.py      which protocol a client asks for, and how its request is read
    events.py           watches and logs over a WebSocket

Clients differ by age (KEP-4006): kubectl from 1.31 on speaks WebSocket and tunnels SPDY through it for port-forward;
older ones, and every Go program that uses the SPDY executor, upgrade to SPDY itself.
"""
