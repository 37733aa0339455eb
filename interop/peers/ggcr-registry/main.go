// ggcr-registry serves go-containerregistry's registry with its referrers API, which
// `crane registry serve` leaves off. It listens on a port of its own choice on loopback, says
// "listening on HOST:PORT" on standard error, and keeps everything in memory.
package main

import (
	"log"
	"net"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	log.SetFlags(0)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("listening on %s", listener.Addr())
	server := &http.Server{
		Handler:           registry.New(registry.WithReferrersSupport(true)),
		ReadHeaderTimeout: 10 * time.Second,
	}
	log.Fatal(server.Serve(listener))
}
