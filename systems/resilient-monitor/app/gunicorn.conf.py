"""One process with a few threads: what `/metrics` and `/chaos/freeze` say is then true of the whole pod."""

bind = "0.0.0.0:5000"
worker_class = "gthread"
workers = 1
threads = 16
# Every request is its own connection, so that a service spreads also one browser over all pods.
keepalive = 0
# After SIGTERM, requests under way may end; longer than any of ours takes, shorter than the pod's grace period.
graceful_timeout = 20
worker_tmp_dir = "/tmp"
control_socket_disable = True
accesslog = "-"
access_log_format = '%(t)s "%(r)s" %(s)s %(M)sms'
