"""The configurations of the proxies that Locum is measured beside.

They are meant to be fair: one worker, connections to backend and authoriser kept alive, no access log, no limit on
how often a connection is used, the client's address passed on as each of them does it. Nothing else is tuned.
"""

import json
from typing import Any

from bench.backend import SOCKET


def nginx(port: int, backend: int, *, authoriser: int | None = None) -> str:
    """Return a proxy, which asks with `auth_request` where there is an authoriser."""
    upstreams = f"upstream app {{ server 127.0.0.1:{backend}; keepalive 64; keepalive_requests 100000000; }}"
    ask = question = ""
    if authoriser is not None:
        upstreams += (
            f"\n  upstream may {{ server 127.0.0.1:{authoriser}; keepalive 64; keepalive_requests 100000000; }}"
        )
        ask = "auth_request /may;"
        question = """
    location = /may {
      internal;
      proxy_pass http://may/;
      proxy_pass_request_body off;
      proxy_set_header Connection "";
      proxy_set_header Content-Length "";
      proxy_set_header X-Original-URI $request_uri;
      proxy_set_header X-Original-Method $request_method;
    }"""
    return _nginx_with(f"""
  {upstreams}
  proxy_http_version 1.1;
  proxy_max_temp_file_size 0;
  client_max_body_size 0;
  proxy_request_buffering off;
  server {{
    listen 127.0.0.1:{port};
    location = {SOCKET} {{
      proxy_pass http://app;
      proxy_set_header Connection upgrade;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
    location / {{
      {ask}
      proxy_pass http://app;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}{question}
  }}""")


def nginx_authoriser(port: int, forbidden: str) -> str:
    """Return the authoriser that answers for free: no for one path, else yes.

    Which path it is, nginx and Caddy say in a header, Envoy behind the prefix; it takes nothing but 200 for yes. No
    answer has a body, because nginx would have to close the connection over one.
    """
    return _nginx_with(f"""
  map "$http_x_original_uri$http_x_forwarded_uri" $no {{
    default 0;
    "{forbidden}" 1;
  }}
  map $uri $nothing {{
    default "";
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      if ($no) {{ return 403 $nothing; }}
      return 204;
    }}
    location /envoy/ {{ return 200; }}
    location = /envoy{forbidden} {{ return 403 $nothing; }}
  }}""")


def _nginx_with(http: str) -> str:
    return f"""daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;{http}
}}
"""


def haproxy(port: int, backend: int) -> str:
    """Return a plain proxy."""
    return f"""global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 60s
  http-reuse always
frontend front
  bind 127.0.0.1:{port}
  option forwardfor
  default_backend app
backend app
  server app 127.0.0.1:{backend} pool-max-conn 64
"""


def caddy(port: int, backend: int, *, authoriser: int | None = None) -> str:
    """Return a proxy, which asks with `forward_auth` where there is an authoriser."""
    kept = "transport http {\n      keepalive_idle_conns 64\n      keepalive_idle_conns_per_host 64\n    }"
    ask = ""
    if authoriser is not None:
        ask = f"forward_auth 127.0.0.1:{authoriser} {{\n    uri /\n    {kept}\n  }}"
    return f"""{{
  admin off
  auto_https off
  servers {{
    protocols h1
  }}
}}
http://:{port} {{
  bind 127.0.0.1
  {ask}
  reverse_proxy 127.0.0.1:{backend} {{
    {kept}
  }}
}}
"""


def envoy(port: int, backend: int, *, authoriser: int | None = None) -> str:
    """Return a proxy, which asks with `ext_authz` over HTTP where there is an authoriser; as JSON."""
    filters = [_typed("envoy.filters.http.router", "http.router.v3.Router")]
    clusters = [_cluster("app", backend)]
    if authoriser is not None:
        server = {"uri": f"http://127.0.0.1:{authoriser}", "cluster": "may", "timeout": "5s"}
        service = {"server_uri": server, "path_prefix": "/envoy"}
        asking = _typed("envoy.filters.http.ext_authz", "http.ext_authz.v3.ExtAuthz", http_service=service)
        filters.insert(0, asking)
        clusters.append(_cluster("may", authoriser))
    route = {"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0s"}}
    connection = _typed(
        "envoy.filters.network.http_connection_manager",
        "network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="front",
        codec_type="HTTP1",
        use_remote_address=True,
        generate_request_id=False,
        route_config={"virtual_hosts": [{"name": "app", "domains": ["*"], "routes": [route]}]},
        upgrade_configs=[{"upgrade_type": "websocket"}],
        http_filters=filters,
    )
    listener = {"name": "front", "address": _address(port), "filter_chains": [{"filters": [connection]}]}
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": clusters}}, indent=1)


def _typed(name: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "typed_config": {"@type": f"type.googleapis.com/envoy.extensions.filters.{kind}", **fields},
    }


def _cluster(name: str, port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(port)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
