"""A configuration for commands at a store; `data`: its directory, `url`: of the shared one."""

CONFIG = """
[server]
issuer = "https://assume.vendor.example"
data_directory = "{data}"
[accounts]
host = "{{account}}.helpdesk.example"
[upstream]
url = "http://127.0.0.1:1"
profile = "demo-helpdesk"
[staff]
issuer = "https://id.vendor.example"
audience = "locum"
[[staff.rules]]
group = "support"
permissions = ["read"]
[store]
url = "{url}"
"""
