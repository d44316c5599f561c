package child

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
)

// verb is the first argument of a program that runs as a child.
const verb = "child"

// IsChild reports whether this process was started by Start. It must then call
// Main and nothing else.
func IsChild() bool { return len(os.Args) == 4 && os.Args[1] == verb }

// Main is the main function of a child. makers has every kind of child by name.
func Main(makers map[string]Maker) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	name := os.Args[2]
	if err := serve(ctx, makers[name], []byte(os.Args[3])); err != nil {
		fmt.Fprintf(os.Stderr, "bench: child %s: %v\n", name, err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, maker Maker, config []byte) error {
	if maker == nil {
		return errors.New("there is no such child")
	}
	server, err := maker(ctx, config)
	if err != nil {
		return err
	}
	control, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	measured, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { log.Fatal(http.Serve(control, controls(server))) }()
	fmt.Println(control.Addr(), measured.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	s := &http.Server{Handler: server.Measured, TLSConfig: server.TLS, ErrorLog: log.New(io.Discard, "", 0)}
	if server.TLS != nil {
		return s.ServeTLS(measured, "", "")
	}
	return s.Serve(measured)
}

// controls is what the parent asks for beside the load.
func controls(server *Server) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /counters", func(w http.ResponseWriter, _ *http.Request) {
		var counters Counters
		if server.Counters != nil {
			counters = server.Counters()
		}
		answer(w, counters, nil)
	})
	mux.HandleFunc("POST /do", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.FormValue("n"))
		var counters Counters
		if err == nil && server.Do != nil {
			counters, err = server.Do(r.Context(), n)
		}
		answer(w, counters, err)
	})
	mux.HandleFunc("GET /memory", func(w http.ResponseWriter, _ *http.Request) {
		debug.FreeOSMemory() // collects garbage first
		answer(w, Counters{"rss": float64(residentBytes(os.Getpid()))}, nil)
	})
	var profile bytes.Buffer
	mux.HandleFunc("POST /profile", func(w http.ResponseWriter, _ *http.Request) {
		runtime.GC()
		answer(w, nil, pprof.StartCPUProfile(&profile))
	})
	mux.HandleFunc("GET /profile", func(w http.ResponseWriter, _ *http.Request) {
		pprof.StopCPUProfile()
		_, _ = profile.WriteTo(w)
	})
	return mux
}

func answer(w http.ResponseWriter, counters Counters, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(counters)
}
