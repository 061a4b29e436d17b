package search

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/lanternist/lanternist/projectors"
)

// Ping asks the cluster for its health. Its error is for a person who checks a configuration: projectors.Hint has something to
// do for each, also for what would be transient later.
func (c *Client) Ping(ctx context.Context) error {
	var health struct {
		Status string `json:"status"`
	}
	query := params("timeout", "5s", "filter_path", "status")
	err := c.do(ctx, call{method: http.MethodGet, path: "/_cluster/health", query: query}, &health)
	if err == nil {
		if health.Status == "" {
			return projectors.Fatalf(hintURL, "elasticsearch: %s: no health in the answer", c.nodes)
		}
		return nil
	}
	if hint := pingHint(err); hint != "" {
		return projectors.Fatalf(hint, "elasticsearch: %w", err)
	}
	return fmt.Errorf("elasticsearch: %w", classify(err))
}

// pingHint is what to do about a server that cannot be spoken to.
func pingHint(err error) string {
	var (
		unknownCA x509.UnknownAuthorityError
		badHost   x509.HostnameError
		verify    *tls.CertificateVerificationError
		record    tls.RecordHeaderError
		dial      *net.OpError
		dns       *net.DNSError
	)
	switch {
	case errors.As(err, &unknownCA), errors.As(err, &badHost), errors.As(err, &verify), errors.As(err, &record),
		errors.Is(err, errFingerprint):
		return hintTLS
	case errors.As(err, &dns), errors.As(err, &dial), errors.Is(err, context.DeadlineExceeded):
		return hintRunning
	case errors.As(err, new(*unreachableError)):
		return hintURL
	}
	if s := statusOf(err); s >= 500 || s == http.StatusTooManyRequests {
		return hintRunning
	}
	denied := statusOf(err) == http.StatusUnauthorized || statusOf(err) == http.StatusForbidden
	if isKind(err, kindProxy) && !denied {
		return hintURL
	}
	return ""
}
