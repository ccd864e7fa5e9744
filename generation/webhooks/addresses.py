"""Which addresses a webhook may reach: those of the public internet, unless the settings say otherwise."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

from generation.conf import configuration

Address = IPv4Address | IPv6Address

LONGEST_URL = 2000
PORTS = (443, 8443)
NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
COMPATIBLE = IPv6Network("::/96")  # RFC 4291, section 2.5.5.1: long out of use, and still an IPv4 address inside


def fault_of(url: str) -> str | None:
    """What keeps `url` from being sent to, as a sentence; None if nothing does. Names are looked up later."""
    if len(url) > LONGEST_URL or not url.isascii() or any(sign <= " " or sign == "\x7f" for sign in url):
        return f"It must have at most {LONGEST_URL} characters, ASCII without spaces."
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "It is not a valid URL."
    allows_private = configuration().webhooks_may_be_private
    schemes = ("https", "http") if allows_private else ("https",)
    if parts.scheme not in schemes or not parts.hostname:
        return f"It must be a whole URL that starts with {' or '.join(f'{scheme}://' for scheme in schemes)}."
    if parts.username is not None or parts.password is not None:
        return "It must not hold a user name or a password."
    if not allows_private and (port or 443) not in PORTS:
        return f"Its port must be one of {', '.join(map(str, PORTS))}."
    return host_fault_of(parts, allows_private=allows_private)


def host_fault_of(parts: SplitResult, *, allows_private: bool) -> str | None:
    """What is wrong with a host that is a number; whether a name leads to a public address is seen at connect time."""
    try:
        address = ip_address(parts.hostname or "")
    except ValueError:
        return None
    return None if allows_private or is_public(address) else "Its address is not on the public internet."


def is_public(address: Address) -> bool:
    """Whether `address`, and the IPv4 address inside of it if there is one, is of the public internet."""
    inner = inner_address(address)
    if inner is not None:
        return is_public(inner)
    is_special = address.is_multicast or address.is_reserved or address.is_unspecified
    is_site_local = isinstance(address, IPv6Address) and address.is_site_local
    return address.is_global and not (is_special or is_site_local)


def inner_address(address: Address) -> IPv4Address | None:
    """The IPv4 address that packets to this IPv6 address may end up at: mapped, 6to4, Teredo, NAT64 or compatible."""
    if isinstance(address, IPv4Address):
        return None
    if address in NAT64 or address in COMPATIBLE:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo[1] if address.teredo else None
    return address.ipv4_mapped or address.sixtofour or teredo
