package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/lanternist/lanternist/config"
)

// errNoDaemon: nothing listens where the configuration says that the daemon does.
var errNoDaemon = errors.New("no daemon is running")

// client asks a running daemon.
type client struct {
	http  *http.Client
	base  string
	token string
}

// clientTimeout bounds one answer.
const clientTimeout = 30 * time.Second

// newClient is a client of the daemon of a configuration.
func newClient(cfg *config.Config) (*client, error) {
	host, port, err := net.SplitHostPort(cfg.HTTP.Listen)
	if err != nil {
		return nil, fmt.Errorf("http.listen: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	c := &client{http: &http.Client{Timeout: clientTimeout}, token: cfg.HTTP.Token.Reveal(), base: "http://" + net.JoinHostPort(host, port)}
	if cfg.HTTP.TLSCert != "" {
		pem, err := os.ReadFile(cfg.Path(cfg.HTTP.TLSCert))
		if err != nil {
			return nil, fmt.Errorf("http.tls_cert: %w", err)
		}
		// The daemon's own certificate is what must answer here, whatever name it was made for.
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		c.http.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: certificateName(pem)}}
		c.base = "https://" + net.JoinHostPort(host, port)
	}
	return c, nil
}

// get reads one answer into v. It returns errNoDaemon when nothing listens.
func (c *client) get(ctx context.Context, path string, query url.Values, v any) error {
	return c.do(ctx, http.MethodGet, path, query, v)
}

func (c *client) post(ctx context.Context, path string, v any) error {
	return c.do(ctx, http.MethodPost, path, nil, v)
}

func (c *client) delete(ctx context.Context, path string, query url.Values, v any) error {
	return c.do(ctx, http.MethodDelete, path, query, v)
}

func (c *client) do(ctx context.Context, method, path string, query url.Values, v any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w at %s", errNoDaemon, c.base)
	}
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= 400 {
		return problemOf(res)
	}
	if v == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(v); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// answerError is a problem document.
type answerError struct {
	status int
	text   string
}

func (e *answerError) Error() string { return e.text }

func problemOf(res *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("%s: %w", res.Status, err)
	}
	var p struct {
		Title, Detail string
		Errors        []struct{ Location, Message string }
	}
	if json.Unmarshal(body, &p) != nil || p.Detail == "" {
		return &answerError{res.StatusCode, res.Status + ": " + strings.TrimSpace(string(body))}
	}
	for _, e := range p.Errors {
		p.Detail += fmt.Sprintf("; %s: %s", strings.TrimPrefix(e.Location, "query."), e.Message)
	}
	return &answerError{res.StatusCode, p.Detail}
}
