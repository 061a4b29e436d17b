package httpapi

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"
)

// A server is stopped at random moments while clients wait for tokens and for events: they are answered at once, each with a status
// that says to come again, and nothing is left running.
func TestServerIsStoppedWhileClientsWait(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for range 15 {
		w := newWorld(t, func(c *Config, _ *Parts) { c.Listen, c.StopTimeout = "127.0.0.1:0", time.Minute })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.server.Run(ctx) }()
		for w.server.Address() == nil {
			<-time.After(time.Millisecond)
		}
		base := "http://" + w.server.Address().String()
		var clients sync.WaitGroup
		for _, path := range []string{"/v1/views/orders/1?after=FF/0&wait=30s", "/v1/views/orders/search?after=FF/0&wait=30s", "/v1/events?wait=30s", "/v1/status"} {
			clients.Go(func() {
				res, err := client.Get(base + path)
				if err != nil {
					return // it came when nobody listened any more
				}
				defer res.Body.Close()
				if res.StatusCode != http.StatusOK && (res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "") {
					t.Errorf("%s: status %d", path, res.StatusCode)
				}
			})
		}
		<-time.After(time.Duration(random.IntN(10_000)) * time.Microsecond)
		cancel()
		clients.Wait() // StopTimeout is longer than the test may take
		<-ended
	}
}
