package webtrigger

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Handler returns one handler for every route: the Bearer API of
// [Service.ServeHTTP] and the event stream of [Service.EventsHandler]. A host can
// mount it at any path:
//
//	mux.Handle("/", svc.Handler(authorize))
//	mux.Handle("/hooks/v2/", svc.Handler(authorize))
//
// authorize decides who may read the event stream; see [Authorizer]. Handler panics
// if authorize is nil.
func (s *Service) Handler(authorize Authorizer) http.Handler {
	events := s.EventsHandler(authorize)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isEventsPath(r.URL.Path) {
			events.ServeHTTP(w, r)
			return
		}
		if s.opts.APIBase == "" {
			r = r.WithContext(context.WithValue(r.Context(), allRoutes{}, true))
		}
		s.ServeHTTP(w, r)
	})
}

// allRoutes is the context key of requests that Handler serves: its event stream is
// at the same mount as the API.
type allRoutes struct{}

func servesAll(r *http.Request) bool { return r.Context().Value(allRoutes{}) != nil }

// Serve runs a whole host: it listens on server.Addr (":http", or ":https" with a
// TLS configuration, if empty), serves HTTP, and executes runs as [Service.Work]
// does, until ctx ends. It uses TLS if server.TLSConfig has certificates.
//
// Then it shuts down in this order: the server stops accepting connections, event
// streams and waiting requests end, other requests get up to Options.DrainTimeout
// to finish, and the runs drain as Work describes. It returns nil after a shutdown,
// else the error of the listener, the server or Work.
//
// Serve uses the server once, and does not change it except by
// [http.Server.RegisterOnShutdown]. Hosts with a server of their own call Work beside
// it, and [Service.CloseStreams] when it shuts down.
func (s *Service) Serve(ctx context.Context, server *http.Server) error {
	listener, err := listen(ctx, server)
	if err != nil {
		return fmt.Errorf("webtrigger: serve: %w", err)
	}
	server.RegisterOnShutdown(s.CloseStreams)
	working, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	served, worked := make(chan error, 1), make(chan error, 1)
	go func() { served <- serve(server, listener) }()
	go func() { worked <- s.Work(working) }()

	var failure error
	select {
	case <-ctx.Done():
	case failure = <-served:
		served <- failure
	case failure = <-worked:
		worked <- failure
	}
	s.shutDown(server)
	stopWork()
	if err := <-served; failure == nil && !errors.Is(err, http.ErrServerClosed) {
		failure = err
	}
	if err := <-worked; failure == nil {
		failure = err
	}
	if failure != nil && !errors.Is(failure, http.ErrServerClosed) {
		return fmt.Errorf("webtrigger: serve: %w", failure)
	}
	return nil
}

// shutDown ends the server's streams and waits, and lets other requests finish
// within the drain time.
func (s *Service) shutDown(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), max(s.opts.DrainTimeout, time.Second))
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		s.log.Warn("requests interrupted by shutdown", "error", err)
		server.Close()
	}
}

func listen(ctx context.Context, server *http.Server) (net.Listener, error) {
	addr := server.Addr
	switch {
	case addr != "":
	case usesTLS(server):
		addr = ":https"
	default:
		addr = ":http"
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", addr)
}

func serve(server *http.Server, listener net.Listener) error {
	if usesTLS(server) {
		return server.ServeTLS(listener, "", "")
	}
	return server.Serve(listener)
}

func usesTLS(server *http.Server) bool {
	c := server.TLSConfig
	return c != nil && (len(c.Certificates) > 0 || c.GetCertificate != nil || c.GetConfigForClient != nil)
}
