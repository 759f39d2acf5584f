// Command labweb is the backend of the laboratory's Services. It says who answered and whom it answered, so that a test
// can tell which Pod on which node a packet reached and whether the client's address survived the way.
//
//	GET /        one line: pod=NAME node=NAME client=ADDRESS:PORT server=ADDRESS:PORT
//	GET /hold    the same line, then a line "tick N" every interval (?every=1s) until the client goes
//	GET /healthz ok
//	UDP          the datagram comes back, with the same line before it
//
// With -get URL it is a client instead: it prints the answer and ends, with status 1 unless the answer is 200.
//
// It takes its name and its node from POD_NAME and NODE_NAME, and the addresses of its UDP sockets from POD_IPS: an
// answer has to come from the address that was asked.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// drainLimit is how long an end waits for requests in progress.
const drainLimit = 2 * time.Second

func main() {
	address := flag.String("address", ":8080", "TCP address to serve HTTP on")
	port := flag.String("udp-port", "8080", "UDP port to echo on")
	url := flag.String("get", "", "be a client: ask for this URL, print the answer and end")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if *url != "" {
		if err := get(ctx, os.Stdout, *url); err != nil {
			log.Error("no answer", "err", err)
			os.Exit(1)
		}
		return
	}
	s := server{pod: os.Getenv("POD_NAME"), node: os.Getenv("NODE_NAME")}
	if err := s.run(ctx, *address, udpAddresses(os.Getenv("POD_IPS"), *port)); err != nil {
		log.Error("labweb ends", "err", err)
		os.Exit(1)
	}
}

// udpAddresses returns where to listen for datagrams: each of the Pod's addresses, or everywhere if they are not known.
func udpAddresses(podIPs, port string) []string {
	var list []string
	for ip := range strings.SplitSeq(podIPs, ",") {
		if ip != "" {
			list = append(list, net.JoinHostPort(ip, port))
		}
	}
	if list == nil {
		list = []string{":" + port}
	}
	return list
}

type server struct{ pod, node string }

// run serves until the context ends or something fails.
func (s server) run(ctx context.Context, address string, udp []string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, a := range udp {
		conn, err := net.ListenPacket("udp", a)
		if err != nil {
			cancel(err)
			return err
		}
		defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
		wg.Go(func() { cancel(s.echo(conn)) })
	}
	h := &http.Server{
		Addr: address, Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx }, // /hold ends with us
	}
	wg.Go(func() { cancel(h.ListenAndServe()) })
	<-ctx.Done()
	drain, stop := context.WithTimeout(context.WithoutCancel(ctx), drainLimit)
	defer stop()
	err := h.Shutdown(drain)
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, http.ErrServerClosed) {
		err = errors.Join(cause, err)
	}
	return err
}

func (s server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /hold", s.hold)
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, s.line(r)) })
	return mux
}

func (s server) line(r *http.Request) string {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return fmt.Sprintf("pod=%s node=%s client=%s server=%s", s.pod, s.node, r.RemoteAddr, local)
}

// hold keeps a response going, so that a test sees whether an established connection lives.
func (s server) hold(w http.ResponseWriter, r *http.Request) {
	every, err := time.ParseDuration(r.FormValue("every"))
	if err != nil || every <= 0 {
		every = time.Second
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	out := http.NewResponseController(w)
	fmt.Fprintln(w, s.line(r))
	for n := 0; ; n++ {
		if out.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-ticker.C:
			fmt.Fprintf(w, "tick %d\n", n)
		}
	}
}

// echo answers datagrams until the socket is closed.
func (s server) echo(conn net.PacketConn) error {
	buffer := make([]byte, 65535)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		line := fmt.Sprintf("pod=%s node=%s client=%s server=%s\n", s.pod, s.node, from, conn.LocalAddr())
		if _, err := conn.WriteTo(append([]byte(line), buffer[:n]...), from); err != nil && !errors.Is(err, net.ErrClosed) {
			continue // the asker is out of reach: the next one may not be
		}
	}
}

// getLimit is how long a client waits for its answer.
const getLimit = 10 * time.Second

// get prints what a URL answers.
func get(ctx context.Context, out io.Writer, url string) error {
	ctx, cancel := context.WithTimeout(ctx, getLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(out, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}
