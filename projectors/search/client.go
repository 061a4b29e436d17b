package search

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
	"github.com/elastic/go-elasticsearch/v8"

	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/views"
)

// Client is a connection to one Elasticsearch cluster, shared by all its stores. It is safe for concurrent use.
type Client struct {
	cfg       Config
	elastic   *elasticsearch.BaseClient
	http      *http.Transport
	nodes     string // for messages, without secrets
	size      *projectors.WriteSize
	pushbacks atomic.Uint64 // times that the cluster had no room
	outsizes  outsizes
	buffers   sync.Pool // *chunk
	cursors   *cursorSet
	refreshes sync.WaitGroup
	life      context.Context // of refreshes, which several requests wait for
	end       context.CancelFunc
	closing   sync.Once
	closed    error // what Close returned

	outsizePatience time.Duration
}

// NewClient makes a client. It reads the CA file; it does not connect.
func NewClient(cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	tlsConfig, err := cfg.tls()
	if err != nil {
		return nil, err
	}
	c := &Client{
		cfg: cfg,
		http: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			TLSClientConfig:     tlsConfig,
			TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConnsPerHost: 64,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  !cfg.Compress,
			WriteBufferSize:     64 << 10,
			ReadBufferSize:      64 << 10,
		},
		size:    projectors.NewWriteSize(bulkBytesLeast, bulkBytesStart, cfg.BulkBytes),
		cursors: newCursorSet(cfg.MaxCursors), outsizePatience: outsizePatience,
	}
	urls := make([]string, len(cfg.URLs))
	names := make([]string, len(cfg.URLs))
	for i, text := range cfg.URLs {
		u, err := url.Parse(text)
		if err != nil {
			return nil, validURL(text)
		}
		u.Path = strings.TrimRight(u.Path, "/")
		urls[i], names[i] = u.String(), (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
	}
	c.nodes = strings.Join(names, ", ")
	c.life, c.end = context.WithCancel(context.Background())
	options := []elastictransport.Option{
		elastictransport.WithTransport(c.http),
		elastictransport.WithBasicAuth(cfg.Username, cfg.Password),
		elastictransport.WithAPIKey(cfg.APIKey),
		elastictransport.WithUserAgent("lanternist"),
	}
	// Another node is tried at once; the same node again only by the caller, who has a backoff.
	if len(urls) == 1 {
		options = append(options, elastictransport.WithDisableRetry())
	} else {
		options = append(options, elastictransport.WithMaxRetries(len(urls)-1))
	}
	if cfg.Compress {
		options = append(options, elastictransport.WithCompression(gzip.BestSpeed))
	}
	c.elastic, err = elasticsearch.NewBase(elasticsearch.WithAddresses(urls...), elasticsearch.WithTransportOptions(options...))
	if err != nil {
		return nil, fmt.Errorf("elasticsearch: %w", err)
	}
	return c, nil
}

// WriteBytes is how large a bulk request is made now.
func (c *Client) WriteBytes() int { return c.size.Bytes() }

// tls is the TLS configuration for https URLs.
func (c Config) tls() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.Insecure}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("elasticsearch: read CA file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("elasticsearch: CA file %s has no certificate in PEM form", c.CAFile)
		}
	}
	if fp := c.fingerprint(); fp != "" {
		want, err := hex.DecodeString(fp)
		if err != nil {
			return nil, fmt.Errorf("elasticsearch: fingerprint: %w", err)
		}
		conf.InsecureSkipVerify = true // VerifyConnection checks instead
		conf.VerifyConnection = func(state tls.ConnectionState) error {
			for _, cert := range state.PeerCertificates {
				if sum := sha256.Sum256(cert.Raw); string(sum[:]) == string(want) {
					return nil
				}
			}
			return errFingerprint
		}
	}
	return conf, nil
}

var errFingerprint = errors.New("no certificate of the server has the configured fingerprint")

// Store is the home of one view in the cluster. Its mapping is worked out here; nothing is sent.
func (c *Client) Store(view *views.View) *Store {
	s := newStore(c, view.Name(), view.Fields(), view.Search())
	s.known(view.Hash())
	return s
}

// Close waits for refreshes under way, and closes the points in time that cursors hold open, for as long as ctx allows, and then the
// connections. The client cannot be used after it; closing it again does nothing.
func (c *Client) Close(ctx context.Context) error {
	c.closing.Do(func() {
		defer context.AfterFunc(ctx, c.end)()
		c.refreshes.Wait()
		c.end()
		for _, id := range c.cursors.drain() {
			if c.closePointInTime(ctx, id) != nil {
				break // the cluster is away; it lets go of all of them when their time is over
			}
		}
		c.closed = c.elastic.Close(context.WithoutCancel(ctx))
		c.http.CloseIdleConnections()
	})
	return c.closed
}
