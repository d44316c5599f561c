package egress

import (
	"net/netip"
	"slices"
	"strings"
)

// parseHost fills in name or addr of t. A host is an IPv6 address in brackets, an IPv4 address as four plain decimals, or
// a DNS name in ASCII.
func (g *Guard) parseHost(t *Target, host string) *Blocked {
	if i := strings.IndexFunc(host, func(r rune) bool { return r > '~' }); i >= 0 {
		// Clients map such names in ways that differ, and the mapping makes digits of full-width digits.
		return block("unicode", "the host has characters outside ASCII: write the name in punycode (xn--…)")
	}
	if inner, found := strings.CutPrefix(host, "["); found {
		return parseIPv6(t, strings.TrimSuffix(inner, "]"))
	}
	if host == "" {
		return block("host", "the URL has no host")
	}
	if strings.Contains(host, "%") {
		return block("host", "the host must not be percent-encoded")
	}
	name := strings.TrimSuffix(strings.ToLower(host), ".")
	labels := strings.Split(name, ".")
	if r := checkLabels(name, labels); r != nil {
		return r
	}
	if endsInNumber(labels) {
		// Resolvers and libraries read 2130706433, 0x7f.1 and 0177.0.0.1 as addresses (inet_aton); so does WHATWG URL.
		a, err := netip.ParseAddr(host)
		if err != nil || !a.Is4() {
			return block("ipv4", "an IPv4 address must be four plain decimal numbers")
		}
		t.addr = a
		return nil
	}
	t.name = name
	return g.checkName(name, labels)
}

func parseIPv6(t *Target, text string) *Blocked {
	if strings.Contains(text, "%") {
		return block("zone", "the IPv6 address must not have a zone id")
	}
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is6() {
		return block("host", "what stands in brackets must be an IPv6 address")
	}
	t.addr = a
	return nil
}

// checkLabels holds a name to RFC 1035 §2.3.4 and RFC 1123 §2.1, with the underscore besides, which is in real names of
// containers and customers.
func checkLabels(name string, labels []string) *Blocked {
	if len(name) > 253 {
		return block("host", "the host name is longer than 253 characters")
	}
	for _, label := range labels {
		switch {
		case label == "":
			return block("host", "the host name has an empty label")
		case len(label) > 63:
			return block("host", "a label of the host name is longer than 63 characters")
		case label[0] == '-' || label[len(label)-1] == '-':
			return block("host", "a label of the host name begins or ends with a hyphen")
		case strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "":
			return block("host", "host name contains an invalid character")
		}
	}
	return nil
}

// endsInNumber is the test of the WHATWG URL standard ("ends in a number checker"): no top-level domain is numeric, so
// whatever ends so is meant, or will be taken, as an IPv4 address.
func endsInNumber(labels []string) bool {
	last := labels[len(labels)-1]
	if hex, found := strings.CutPrefix(last, "0x"); found {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

// checkName blocks names that are local by definition or by custom.
func (g *Guard) checkName(name string, labels []string) *Blocked {
	top := labels[len(labels)-1]
	private := len(g.allow) > 0
	switch {
	case private && (len(labels) == 1 || slices.Contains(privateNames, top)):
		return nil
	case len(labels) == 1 && name != "localhost":
		return block("single-label", "the host must be a full domain name")
	case slices.Contains(privateNames, top), slices.Contains(specialNames, top):
		return block("special-name", "the host name is reserved for local or special use")
	}
	return nil
}

// privateNames are top-level names that an operator with allowed ranges may use: RFC 6761 (localhost), RFC 6762 (local),
// and ICANN's reservation of 2024-07-29 (internal).
var privateNames = []string{"internal", "local", "localhost"}

// specialNames are top-level names that never lead to the public internet, or are not meant to: RFC 6761 (test, example,
// invalid), RFC 7686 (onion), RFC 9476 (alt), .arpa as a whole (RFC 3172; with it home.arpa of RFC 8375), the names that
// RFC 6762 appendix G warns of, ICANN's collision names (home, corp, mail), and localdomain. The second-level names
// example.com, .net and .org resolve publicly and are not blocked.
var specialNames = []string{
	"alt", "arpa", "corp", "example", "home", "intranet", "invalid", "lan", "localdomain", "mail", "onion", "private", "test",
}
