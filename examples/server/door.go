package main

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

const (
	adminUser   = "admin"
	cookieName  = "webtrigger_session"
	sessionLife = 12 * time.Hour
)

// door is the evaluation server's sign-in: one user, sessions in memory. A host
// has its own in this place.
type door struct {
	password [sha256.Size]byte
	secure   bool // cookies travel over HTTPS only

	mu       sync.Mutex
	sessions map[string]time.Time // token → end
}

func newDoor(password string, secure bool) *door {
	return &door{password: sha256.Sum256([]byte(password)), secure: secure, sessions: make(map[string]time.Time)}
}

func (d *door) mount(mux *http.ServeMux) {
	mux.HandleFunc("GET /login", d.form)
	mux.Handle("POST /login", new(http.CrossOriginProtection).Handler(http.HandlerFunc(d.login)))
	mux.Handle("POST /logout", new(http.CrossOriginProtection).Handler(http.HandlerFunc(d.logout)))
}

// authorize lets the signed-in administrator do anything.
func (d *door) authorize(r *http.Request, _ webtrigger.Access) error {
	if user, password, ok := r.BasicAuth(); ok && d.matches(user, password) {
		return nil
	}
	if cookie, err := r.Cookie(cookieName); err == nil && d.open(cookie.Value) {
		return nil
	}
	return webtrigger.ErrUnauthenticated
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

func (d *door) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	if !d.matches(r.PostFormValue("username"), r.PostFormValue("password")) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte("wrong user name or password\n"))
		return
	}
	token := rand.Text()
	d.mu.Lock()
	for old, end := range d.sessions {
		if time.Now().After(end) {
			delete(d.sessions, old)
		}
	}
	d.sessions[token] = time.Now().Add(sessionLife)
	d.mu.Unlock()
	http.SetCookie(w, d.cookie(token, int(sessionLife/time.Second)))
	http.Redirect(w, r, "/admin/", http.StatusSeeOther)
}

func (d *door) logout(w http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie(cookieName); err == nil {
		d.mu.Lock()
		delete(d.sessions, cookie.Value)
		d.mu.Unlock()
	}
	http.SetCookie(w, d.cookie("", -1))
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

func (d *door) cookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: cookieName, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: d.secure, SameSite: http.SameSiteLaxMode,
	}
}

// form is the sign-in page.
func (d *door) form(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy",
		"default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	_, _ = w.Write([]byte(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in · Web Trigger</title>
<link rel="icon" href="admin/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="admin/static/console.css">
<main>
<h1>Sign in</h1>
<form method="post" action="login" class="stack">
<label>User name <input name="username" autocomplete="username" required></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required></label>
<div class="actions"><button class="main">Sign in</button></div>
</form>
</main>
</html>
`))
}
