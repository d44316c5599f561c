package egress

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxURL is the longest URL in characters (Unicode code points).
const maxURL = 2048

// Target is a URL that [Guard.ParseURL] accepted: where the callback goes, and the exact bytes that its request line
// will carry. It never changes.
type Target struct {
	name   string     // ASCII, lower case, no trailing dot; "" for a literal address
	addr   netip.Addr // the literal address, when name is ""
	port   uint16
	target string // path and query as they were sent, at least "/"
}

// Host is the name in lower case without a trailing dot, or the address without brackets; also what the receiver's
// certificate must be for.
func (t *Target) Host() string {
	if t.name != "" {
		return t.name
	}
	return t.addr.String()
}

// Port is the TCP port, 443 when the URL named none.
func (t *Target) Port() uint16 { return t.port }

// IsName reports whether the host is a name, which needs a lookup.
func (t *Target) IsName() bool { return t.name != "" }

// HostPort is host and port, an IPv6 address in brackets: what one receiver is known by.
func (t *Target) HostPort() string { return net.JoinHostPort(t.Host(), strconv.Itoa(int(t.port))) }

// String is the URL as it is sent: https, the host as [Target.Host] spells it, the port unless it is 443, path and query
// byte for byte, no fragment. Parsing it again gives the same Target.
func (t *Target) String() string { return "https://" + t.authority() + t.target }

// authority returns the value of the Host header, without the default port (RFC 9110 §7.2).
func (t *Target) authority() string {
	host := t.Host()
	if t.addr.Is6() {
		host = "[" + host + "]"
	}
	if t.port != 443 {
		host += ":" + strconv.Itoa(int(t.port))
	}
	return host
}

// requestURL is the URL that makes net/http write exactly t.target. Opaque is written as it is, unless it begins with
// two slashes, which net/url takes for an authority; such a target goes through Path and RawPath.
func (t *Target) requestURL() *url.URL {
	u := &url.URL{Scheme: "https", Host: t.authority()}
	if !strings.HasPrefix(t.target, "//") {
		u.Opaque = t.target
		return u
	}
	path, query, found := strings.Cut(t.target, "?")
	u.RawPath, u.RawQuery, u.ForceQuery = path, query, found
	u.Path, _ = url.PathUnescape(path)
	return u
}

// ParseURL accepts or blocks a callback URL by its text alone, without a lookup. An error is always a *Blocked.
//
// It implements RFC 3986 more strictly than net/url. If two parsers could read a text in two ways, the text is blocked,
// not repaired. It normalizes the case of scheme and host and one trailing dot of a name, and drops the fragment, as
// every HTTP client does. Path and query are kept byte for byte and are not checked; they may contain unescaped
// characters and invalid percent-encodings. Only a path that begins with two slashes must be encoded correctly, because
// net/http cannot send it otherwise.
func (g *Guard) ParseURL(raw string) (*Target, error) {
	if r := checkText(raw); r != nil {
		return nil, r
	}
	scheme, rest, found := strings.Cut(raw, ":")
	if !found || !strings.EqualFold(scheme, "https") {
		return nil, block("scheme", "the URL must be absolute and begin with https://")
	}
	rest, found = strings.CutPrefix(rest, "//")
	if !found {
		return nil, block("scheme", "the URL must be absolute and begin with https://")
	}
	authority, target := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, target = rest[:i], rest[i:]
	}
	t := &Target{port: 443}
	if r := g.parseAuthority(t, authority); r != nil {
		return nil, r
	}
	t.target, _, _ = strings.Cut(target, "#")
	if !strings.HasPrefix(t.target, "/") {
		t.target = "/" + t.target
	}
	if t.requestURL().RequestURI() != t.target {
		return nil, block("path", "a path that begins with two slashes must be properly percent-encoded")
	}
	return t, nil
}

// checkText blocks texts with characters that no part of a URL may have.
func checkText(raw string) *Blocked {
	switch {
	case raw == "":
		return block("empty", "the URL is empty")
	case !utf8.ValidString(raw):
		return block("control", "the URL is not valid UTF-8")
	case utf8.RuneCountInString(raw) > maxURL:
		return block("length", "the URL is longer than 2,048 characters")
	}
	for _, r := range raw {
		switch {
		case r == '\\':
			return block("backslash", "the URL has a backslash")
		case r == ' ' || !unicode.IsControl(r) && unicode.IsSpace(r):
			return block("space", "the URL has white space in it")
		case unicode.IsControl(r):
			return block("control", "the URL has a control character in it")
		}
	}
	return nil
}

// parseAuthority fills in host and port of t.
func (g *Guard) parseAuthority(t *Target, authority string) *Blocked {
	if strings.Contains(authority, "@") {
		return block("userinfo", "the URL must not carry a user name or a password")
	}
	host, port, hasPort := authority, "", false
	switch {
	case strings.HasPrefix(authority, "["):
		end := strings.IndexByte(authority, ']')
		if end < 0 {
			return block("host", "the bracket of the IPv6 address is not closed")
		}
		host = authority[:end+1]
		if rest := authority[end+1:]; rest != "" {
			if rest[0] != ':' {
				return block("host", "only a port may follow the IPv6 address")
			}
			port, hasPort = rest[1:], true
		}
	case strings.Count(authority, ":") > 1:
		return block("host", "a host has one port, and an IPv6 address stands in brackets")
	default:
		host, port, hasPort = strings.Cut(authority, ":")
	}
	if r := g.parseHost(t, host); r != nil {
		return r
	}
	if !hasPort {
		return nil
	}
	return parsePort(t, port)
}

func parsePort(t *Target, s string) *Blocked {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || s[0] == '0' {
		return block("port", "the port must be a plain decimal number, 443 or 1024 to 65535")
	}
	t.port = uint16(n)
	if t.port != 443 && t.port < 1024 {
		return block("port", "the port must be 443 or 1024 to 65535")
	}
	if slices.Contains(dataStorePorts, t.port) {
		return block("port", "port is reserved for a data store or control service: use 443 or another port from 1024 to 65535")
	}
	return nil
}

// dataStorePorts are ports from 1024 up that are common for services other than web servers, which a forged request
// could damage or read. The list omits ports that self-hosted web services use as well (3000, 5678, 8080, 8123, 8443,
// 9000, 9443).
var dataStorePorts = []uint16{
	1433, 1434, // Microsoft SQL Server
	1521,       // Oracle
	2181,       // ZooKeeper
	2375, 2376, // Docker
	2379, 2380, // etcd
	3306, 33060, // MySQL
	4222,       // NATS
	5432, 6432, // PostgreSQL, PgBouncer
	5671, 5672, // AMQP
	5984, 6984, // CouchDB
	6379, 6380, 26379, // Redis, Sentinel
	7687,       // Neo4j
	8086,       // InfluxDB
	9042, 9142, // Cassandra
	9092,       // Kafka
	9200, 9300, // Elasticsearch
	10250,               // kubelet
	11211,               // memcached
	26257,               // CockroachDB
	27017, 27018, 27019, // MongoDB
}
