package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

const (
	adminUser     = "admin"
	sessionCookie = "webtrigger_session"
	sessionLife   = 12 * time.Hour
	browserCookie = "webtrigger_browser" // of a browser that has signed in before
	browserLife   = 90 * 24 * time.Hour
)

// door is the evaluation server's sign-in: one user, sessions in memory. A host has
// its own in this place.
type door struct {
	password [sha256.Size]byte
	secure   bool // send cookies over HTTPS only
	attempts throttle

	mu       sync.Mutex
	sessions map[string]time.Time // token → end
}

func newDoor(password string, secure bool) *door {
	return &door{password: sha256.Sum256([]byte(password)), secure: secure, sessions: make(map[string]time.Time)}
}

// authorize allows the signed-in administrator everything.
func (d *door) authorize(r *http.Request, _ webtrigger.Access) error {
	if cookie, err := r.Cookie(sessionCookie); err == nil && d.open(cookie.Value) || r.Context().Value(byBasic{}) != nil {
		webtrigger.SetActor(r, adminUser)
		return nil
	}
	return webtrigger.ErrUnauthenticated
}

// byBasic marks the context of a request that HTTP Basic has authenticated.
type byBasic struct{}

// protect adds HTTP Basic in front of a handler that calls authorize. It sends
// browsers without a session to the sign-in page, which leads them back.
func (d *door) protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); ok {
			ok, wait := d.attempts.attempt(address(r), false, func() bool { return d.matches(user, password) })
			if wait > 0 {
				w.Header().Set("Retry-After", seconds(wait))
				problem(w, http.StatusTooManyRequests, "rate_limited", "Too many failed sign-in attempts. Wait, then send the request again.")
				return
			}
			if ok {
				r = r.WithContext(context.WithValue(r.Context(), byBasic{}, true))
			}
		}
		if navigates(r) && d.authorize(r, webtrigger.Access{}) != nil {
			http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// navigates reports whether a browser opens a page.
func navigates(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html")
}

func (d *door) matches(user, password string) bool {
	sum := sha256.Sum256([]byte(password))
	return subtle.ConstantTimeCompare(sum[:], d.password[:])&subtle.ConstantTimeCompare([]byte(user), []byte(adminUser)) == 1
}

func (d *door) open(token string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Now().Before(d.sessions[token])
}

// signIn is the sign-in page and what it sends.
func (d *door) signIn(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		writePage(w, http.StatusOK, "login", signInPage{Next: asked(r)})
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	page := signInPage{Next: local(r.PostFormValue("next"))}
	caller, known := d.browser(r)
	ok, wait := d.attempts.attempt(caller, known, func() bool { return d.matches(r.PostFormValue("username"), r.PostFormValue("password")) })
	switch {
	case wait > 0:
		w.Header().Set("Retry-After", seconds(wait))
		page.Message = "Too many failed sign-in attempts. Try again in " + seconds(wait) + " s."
		writePage(w, http.StatusTooManyRequests, "login", page)
	case !ok:
		page.Message = "The user name or the password is wrong."
		writePage(w, http.StatusUnauthorized, "login", page)
	default:
		http.SetCookie(w, d.cookie(sessionCookie, d.begin(), sessionLife))
		if !known {
			token := rand.Text()
			http.SetCookie(w, d.cookie(browserCookie, token+"."+d.sign(token), browserLife))
		}
		http.Redirect(w, r, page.Next, http.StatusSeeOther)
	}
}

// begin begins a session and drops those that have ended.
func (d *door) begin() (token string) {
	token = rand.Text()
	d.mu.Lock()
	defer d.mu.Unlock()
	for old, end := range d.sessions {
		if time.Now().After(end) {
			delete(d.sessions, old)
		}
	}
	d.sessions[token] = time.Now().Add(sessionLife)
	return token
}

// browser returns who attempts to sign in: a browser that has signed in before, or
// an address. Failures of others at the same address, such as that of a proxy, do not
// count for a known browser.
func (d *door) browser(r *http.Request) (caller string, known bool) {
	if cookie, err := r.Cookie(browserCookie); err == nil {
		token, signature, _ := strings.Cut(cookie.Value, ".")
		if hmac.Equal([]byte(signature), []byte(d.sign(token))) {
			return "browser " + token, true
		}
	}
	return address(r), false
}

func (d *door) sign(token string) string {
	mac := hmac.New(sha256.New, d.password[:])
	mac.Write([]byte(token))
	return hex.EncodeToString(mac.Sum(nil))
}

func (d *door) signOut(w http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie(sessionCookie); err == nil {
		d.mu.Lock()
		delete(d.sessions, cookie.Value)
		d.mu.Unlock()
	}
	http.SetCookie(w, d.cookie(sessionCookie, "", -time.Second))
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

func (d *door) cookie(name, value string, life time.Duration) *http.Cookie {
	return &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(life / time.Second),
		HttpOnly: true, Secure: d.secure, SameSite: http.SameSiteLaxMode,
	}
}

// afterSignIn is where a sign-in leads, unless a page was asked for.
const afterSignIn = "/admin/"

// asked returns the page that a visitor of the sign-in page asked for: the one that
// redirected here, or the one with the link that led here.
func asked(r *http.Request) string {
	if r.URL.Query().Has("next") {
		return local(r.URL.Query().Get("next"))
	}
	from, err := url.Parse(r.Referer())
	if err != nil || from.Host != r.Host {
		return afterSignIn
	}
	return local(from.RequestURI())
}

// local returns a target on this server: the one given, if it is a local page.
func local(target string) string {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(target, "/") ||
		strings.HasPrefix(target, "//") || strings.Contains(target, `\`) || u.Path == "/" || u.Path == "/login" || u.Path == "/logout" {
		return afterSignIn
	}
	return target
}

// seconds writes a duration for Retry-After.
func seconds(d time.Duration) string { return strconv.Itoa(int(math.Ceil(d.Seconds()))) }
