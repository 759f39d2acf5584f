package kubelet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// logPort is where the API server asks a kubelet for logs.
const logPort = 10250

// followInterval is how often a followed log is looked at.
const followInterval = 200 * time.Millisecond

// logDir returns where a container's logs are: one file per run, named by the number of the run. They outlive the Pod.
func (k *Kubelet) logDir(namespace, pod, container string) string {
	return filepath.Join(k.o.Dir, "logs", namespace+"_"+pod, container)
}

func (k *Kubelet) openLog(pod *corev1.Pod, container string, run int32) (*os.File, error) {
	dir := k.logDir(pod.Namespace, pod.Name, container)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(dir, fmt.Sprintf("%04d.log", run)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
}

// latestLog returns a container's newest log, or the one before it.
func (k *Kubelet) latestLog(namespace, pod, container string, previous bool) (string, error) {
	files, err := filepath.Glob(filepath.Join(k.logDir(namespace, pod, container), "*.log"))
	if err != nil {
		return "", err
	}
	slices.Sort(files)
	back := 1
	if previous {
		back = 2
	}
	if len(files) < back {
		return "", fmt.Errorf("container %s of %s/%s has no such log on node %s", container, namespace, pod, k.o.Node)
	}
	return files[len(files)-back], nil
}

// listen opens the kubelet's API. Only who shows a certificate of the cluster may ask.
func (k *Kubelet) listen() (net.Listener, error) {
	certificate, err := tls.X509KeyPair(k.o.Certificate, k.o.Key)
	if err != nil {
		return nil, fmt.Errorf("kubelet %s: serving certificate: %w", k.o.Node, err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(k.o.ClientCA) {
		return nil, fmt.Errorf("kubelet %s: no certificate in the client authority", k.o.Node)
	}
	l, err := k.o.Host.Listen("tcp", fmt.Sprintf("[::]:%d", logPort))
	if err != nil {
		return nil, fmt.Errorf("kubelet %s: %w", k.o.Node, err)
	}
	return tls.NewListener(l, &tls.Config{
		Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
		NextProtos: []string{"http/1.1"},
	}), nil
}

// serveLogs answers kubectl logs until the context ends.
func (k *Kubelet) serveLogs(ctx context.Context, l net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", k.containerLogs)
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		k.o.Log.Error("serving container logs", "err", err)
	}
}

func (k *Kubelet) containerLogs(out http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	namespace, pod, container := r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container")
	path, err := k.latestLog(namespace, pod, container, query.Get("previous") == "true")
	if err != nil {
		http.Error(out, err.Error(), http.StatusNotFound)
		return
	}
	f, err := os.Open(path)
	if err != nil {
		http.Error(out, err.Error(), http.StatusInternalServerError)
		return
	}
	defer f.Close()
	lines := -1
	if n, err := strconv.Atoi(query.Get("tailLines")); err == nil {
		lines = n
	}
	if err := sendTail(out, f, lines); err != nil || query.Get("follow") != "true" {
		return // the reader has gone, or has all that it wanted
	}
	k.follow(r.Context(), out, f, func() bool {
		_, err := k.Find(namespace, pod, container)
		return err == nil
	})
}

// sendTail sends the last n lines of a file, all of it if n is negative.
func sendTail(out io.Writer, f io.Reader, n int) error {
	if n < 0 {
		_, err := io.Copy(out, f)
		return err
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	lines := strings.SplitAfter(string(text), "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	_, err = io.WriteString(out, strings.Join(lines[max(0, len(lines)-n):], ""))
	return err
}

// follow sends what is added to a file for as long as the container runs and somebody listens.
func (k *Kubelet) follow(ctx context.Context, out http.ResponseWriter, f io.Reader, running func() bool) {
	control := http.NewResponseController(out)
	for {
		alive := running()
		if _, err := io.Copy(out, f); err != nil || control.Flush() != nil {
			return
		}
		if !alive || !sleep(ctx, followInterval) {
			return
		}
	}
}

// kernelRelease returns what uname -r prints.
func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}
