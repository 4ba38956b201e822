"""Other firewalls on a node: rule sets shaped as Docker, kube-proxy and firewalld make theirs."""

from __future__ import annotations

from tests.support.node import Node

# dockerd 28 with its default bridge, a container that publishes port 8000, and a rule of a user's.
DOCKER = """
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-BRIDGE - [0:0]
:DOCKER-CT - [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER-BRIDGE -o docker0 -j DOCKER
-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-USER -d 203.0.113.0/24 -j REJECT --reject-with icmp-port-unreachable
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8000 -j DNAT --to-destination 172.17.0.2:80
COMMIT
"""

# kube-proxy 1.33: a service at 10.96.0.10:80 and NodePort 30080, its endpoint `{endpoint}`:80.
KUBE_PROXY_IPTABLES = """
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A INPUT -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A FORWARD -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 \
-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-EXT-TCOU7JCQXEZGVUNU - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SEP-SUTHTTWBMCOIYXMZ - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-TCOU7JCQXEZGVUNU - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-EXT-TCOU7JCQXEZGVUNU -j KUBE-MARK-MASQ
-A KUBE-EXT-TCOU7JCQXEZGVUNU -j KUBE-SVC-TCOU7JCQXEZGVUNU
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-NODEPORTS -p tcp -m tcp --dport 30080 -j KUBE-EXT-TCOU7JCQXEZGVUNU
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-SEP-SUTHTTWBMCOIYXMZ -s {endpoint}/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-SUTHTTWBMCOIYXMZ -p tcp -m tcp -j DNAT --to-destination {endpoint}:80
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-TCOU7JCQXEZGVUNU
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-SVC-TCOU7JCQXEZGVUNU ! -s 10.22.0.0/24 -d 10.96.0.10/32 \
-p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVC-TCOU7JCQXEZGVUNU -j KUBE-SEP-SUTHTTWBMCOIYXMZ
COMMIT
"""

# The same in its mode `nftables`.
KUBE_PROXY_NFTABLES = """
table ip kube-proxy {{
    comment "rules for kube-proxy"
    set cluster-ips {{
        type ipv4_addr
        elements = {{ 10.96.0.10 }}
    }}
    set nodeport-ips {{
        type ipv4_addr
        elements = {{ 192.0.2.1 }}
    }}
    map no-endpoint-nodeports {{
        type inet_proto . inet_service : verdict
    }}
    map service-ips {{
        type ipv4_addr . inet_proto . inet_service : verdict
        elements = {{ 10.96.0.10 . tcp . 80 : goto service-ULMVA6XW-default/web/tcp/http }}
    }}
    map service-nodeports {{
        type inet_proto . inet_service : verdict
        elements = {{ tcp . 30080 : goto external-ULMVA6XW-default/web/tcp/http }}
    }}
    chain mark-for-masquerade {{
        meta mark set meta mark | 0x00004000
    }}
    chain masquerading {{
        meta mark & 0x00004000 == 0x00000000 return
        meta mark set meta mark ^ 0x00004000
        masquerade fully-random
    }}
    chain services {{
        ip daddr . meta l4proto . th dport vmap @service-ips
        ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
    }}
    chain service-ULMVA6XW-default/web/tcp/http {{
        ip daddr 10.96.0.10 tcp dport 80 ip saddr != 10.22.0.0/24 jump mark-for-masquerade
        numgen random mod 1 vmap {{ 0 : goto endpoint-5OJB2KTY-default/web/tcp/http__x/80 }}
    }}
    chain external-ULMVA6XW-default/web/tcp/http {{
        jump mark-for-masquerade
        goto service-ULMVA6XW-default/web/tcp/http
    }}
    chain endpoint-5OJB2KTY-default/web/tcp/http__x/80 {{
        ip saddr {endpoint} jump mark-for-masquerade
        meta l4proto tcp dnat to {endpoint}:80
    }}
    chain filter-forward {{
        type filter hook forward priority -110; policy accept;
        ct state new jump cluster-ips-check
    }}
    chain cluster-ips-check {{
        ip daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"
    }}
    chain nat-prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
        jump services
    }}
    chain nat-output {{
        type nat hook output priority -100; policy accept;
        jump services
    }}
    chain nat-postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        jump masquerading
    }}
}}
"""

# firewalld 1.3 with its default zone `public`, in which eth0 is.
FIREWALLD = """
table inet firewalld {
    chain nat_PREROUTING { type nat hook prerouting priority dstnat + 10; policy accept; }
    chain filter_PREROUTING {
        type filter hook prerouting priority filter + 10; policy accept;
        icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
    }
    chain filter_INPUT {
        type filter hook input priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        iifname "eth0" accept
        ct state invalid drop
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        jump filter_FORWARD_ZONES
        ct state invalid drop
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD_ZONES {
        iifname "eth0" goto filter_FWD_public
        goto filter_FWD_public
    }
    chain filter_FWD_public { reject with icmpx admin-prohibited; }
    chain filter_FWD_trusted { accept; }
}
"""


def load_iptables(node: Node, variant: str, text: str) -> None:
    """Put tables, as iptables-save prints them, in place."""
    node.run(f"iptables-{variant}-restore", stdin=text)


def load_nft(node: Node, text: str) -> None:
    """Add tables, as `nft list ruleset` prints them."""
    node.run("nft", "-f", "-", stdin=text)


def saved(node: Node, variant: str) -> list[str]:
    """All rules of iptables, both IP versions, without counters and comments."""
    lines: list[str] = []
    for program in ("iptables", "ip6tables"):
        text = node.run(f"{program}-{variant}-save").stdout
        lines += [line.partition(" [")[0] for line in text.splitlines() if line[0] != "#"]
    return lines


def others(node: Node) -> str:
    """All of nftables but what is ours, without counters."""
    tables = node.run("nft", "list", "tables").stdout.splitlines()
    foreign = [table for table in tables if table != "table inet pycni"]
    return "".join(node.run("nft", "-s", "list", *table.split()).stdout for table in foreign)
