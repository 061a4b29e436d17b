package httpapi

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Config is how the API listens, whom it answers, and its bounds. Zero fields have their defaults.
type Config struct {
	// Listen is host:port. Default 127.0.0.1:8080.
	Listen string
	// Token is what clients must send as "Authorization: Bearer …", except to /healthz and /readyz. It is required when
	// Listen is not a loopback address. Default: none.
	Token string
	// TLSCert and TLSKey are PEM files; both or none. Default: none, plain HTTP.
	TLSCert, TLSKey string

	// Epoch is the source's epoch, "<system identifier>-<timeline>": which server positions belong to. Required.
	Epoch string
	// SourceURL is where to ask for the state of a transaction that a token names. Default: none, then only transactions
	// that have been read from the log are known.
	SourceURL string
	// Version is the program's, for /v1/status and OpenAPI.
	Version string

	// Wait is how long a request with a token waits when it does not say. Default 2s.
	Wait time.Duration
	// MaxWait bounds what a request may say. Default 30s.
	MaxWait time.Duration
	// MaxWaiters bounds the requests that wait for a token at once; more are answered 503. Default 10,000.
	MaxWaiters int
	// MaxRequests bounds the requests in flight, those that wait included. Default MaxWaiters + 1,024.
	MaxRequests int
	// MaxConnections bounds the connections; more wait in the system's queue until one is closed. Half of the files that the process
	// may open leaves the other half to journal, mirror and sinks. Default: no bound.
	MaxConnections int
	// ReadTimeout bounds what a sink may take for one answer, after the wait. Default 10s.
	ReadTimeout time.Duration
	// SearchAge is how old the index may be that a search without a token sees. A refresh is asked for when it is
	// older, by one search for all. Default 1s.
	SearchAge time.Duration
	// PageSize is the size of a page when the request does not say. Default 100; of a search 20.
	PageSize int
	// MaxPageSize bounds it. Default 1,000.
	MaxPageSize int
	// StopTimeout bounds how long requests in flight may go on when the server stops. Default 5s.
	StopTimeout time.Duration
}

// Bounds of a connection that nobody needs to change.
const (
	readHeaderTimeout = 5 * time.Second
	readBodyTimeout   = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 32 << 10
	maxBodyBytes      = 64 << 10
)

func (c Config) withDefaults() Config {
	def(&c.Listen, "127.0.0.1:8080")
	def(&c.Wait, 2*time.Second)
	def(&c.MaxWait, 30*time.Second)
	def(&c.MaxWaiters, 10_000)
	def(&c.MaxRequests, c.MaxWaiters+1024)
	def(&c.ReadTimeout, 10*time.Second)
	def(&c.SearchAge, time.Second)
	def(&c.PageSize, 100)
	def(&c.MaxPageSize, 1000)
	def(&c.StopTimeout, 5*time.Second)
	c.Wait = min(c.Wait, c.MaxWait)
	c.PageSize = min(c.PageSize, c.MaxPageSize)
	return c
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate names every problem of the configuration at once.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	if c.Epoch == "" {
		errs = append(errs, errors.New("http: the source's epoch is not known"))
	}
	if c.Epoch != "" && !validEpoch(c.Epoch) {
		errs = append(errs, fmt.Errorf("http: epoch %q is not <system identifier>-<timeline>", c.Epoch))
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		errs = append(errs, fmt.Errorf("http.listen: %w", err))
	} else if c.Token == "" && !isLoopback(host) {
		errs = append(errs, fmt.Errorf("http.listen: %s can be reached from other machines: set http.token, or listen on 127.0.0.1", c.Listen))
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		errs = append(errs, errors.New("http: tls_cert and tls_key go together"))
	}
	for name, value := range map[string]int64{
		"wait": int64(c.Wait), "max_wait": int64(c.MaxWait), "max_waiters": int64(c.MaxWaiters), "max_requests": int64(c.MaxRequests),
		"read_timeout": int64(c.ReadTimeout), "search_age": int64(c.SearchAge), "page_size": int64(c.PageSize),
		"max_page_size": int64(c.MaxPageSize), "stop_timeout": int64(c.StopTimeout),
	} {
		if value < 0 {
			errs = append(errs, fmt.Errorf("http.%s is negative", name))
		}
	}
	return errors.Join(errs...)
}

// isLoopback says that a host can only be reached from this machine. No host means all addresses.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
