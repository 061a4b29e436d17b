package search

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/lanternist/lanternist/projectors"
)

var (
	// ErrBadQuery is wrapped by the error of a Query that names what the view does not have, or asks for what it cannot do.
	// It is the reader's mistake, and its text is meant for the reader.
	ErrBadQuery = errors.New("bad query")
	// ErrCursorExpired is wrapped when a cursor's point in time is gone. The reader starts again at the first page.
	ErrCursorExpired = errors.New("cursor has expired")
	// ErrNotReady is wrapped when the view has no live generation yet.
	ErrNotReady = errors.New("view is not ready: no generation is live")

	errNotElasticsearch = errors.New("the server is not Elasticsearch 7.14 or later (no X-Elastic-Product header)")
)

// statusError is an answer other than 2xx.
type statusError struct {
	status int
	kind   string // "index_not_found_exception"; "" when the answer was not Elasticsearch's
	reason string
	root   string // the innermost reason
}

func (e *statusError) Error() string {
	if e.kind == "" && e.reason == "" {
		return fmt.Sprintf("answered %d %s", e.status, http.StatusText(e.status))
	}
	return fmt.Sprintf("answered %d: %s: %s", e.status, e.kind, e.reason)
}

// fromElasticsearch says whether the answer has an error object of Elasticsearch.
func (e *statusError) fromElasticsearch() bool { return e.kind != "" && e.kind != kindProxy }

// Is says that Elasticsearch did not answer: a proxy did, who could not reach it.
func (e *statusError) Is(target error) bool {
	return target == projectors.ErrUnanswered && e.kind == kindProxy && e.status >= http.StatusBadGateway
}

// kindProxy is the kind of an answer that Elasticsearch did not give.
const kindProxy = "proxy"

// unreachableError is a request without an answer.
type unreachableError struct {
	nodes string
	err   error
}

func (e *unreachableError) Error() string { return fmt.Sprintf("reach %s: %v", e.nodes, e.err) }
func (e *unreachableError) Unwrap() error { return e.err }

// Is says that there was no answer.
func (e *unreachableError) Is(target error) bool { return target == projectors.ErrUnanswered }

// cause is an error object of Elasticsearch's answers.
type cause struct {
	Type      string  `json:"type"`
	Reason    string  `json:"reason"`
	CausedBy  *cause  `json:"caused_by"`
	RootCause []cause `json:"root_cause"`
	Failed    []struct {
		Reason cause `json:"reason"`
	} `json:"failed_shards"`
}

// text is the reason with the reason behind it.
func (c *cause) text() string {
	text := c.Reason
	for inner := c.CausedBy; inner != nil; inner = inner.CausedBy {
		if inner.Reason != "" && !strings.Contains(text, inner.Reason) {
			text += ": " + inner.Reason
		}
	}
	return text
}

// innermost is the reason behind all others.
func (c *cause) innermost() string {
	for c.CausedBy != nil && c.CausedBy.Reason != "" {
		c = c.CausedBy
	}
	return c.Reason
}

func newStatusError(status int, header http.Header, body []byte) error {
	e := &statusError{status: status}
	var answer struct {
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(body, &answer) == nil && len(answer.Error) > 0 {
		var c cause
		if json.Unmarshal(answer.Error, &c) == nil {
			e.kind, e.reason, e.root = c.Type, c.text(), c.innermost()
			// The outermost error of a search says only that all shards failed.
			if len(c.Failed) > 0 {
				e.kind, e.reason = c.Failed[0].Reason.Type, c.Failed[0].Reason.text()
			} else if len(c.RootCause) > 0 && c.RootCause[0].Reason != "" && c.CausedBy == nil {
				e.kind, e.reason = c.RootCause[0].Type, c.RootCause[0].text()
			}
		} else {
			_ = json.Unmarshal(answer.Error, &e.reason)
		}
	}
	if e.kind == "" && header.Get("X-Elastic-Product") == "" && status != http.StatusRequestEntityTooLarge {
		e.kind = kindProxy
		e.reason = strings.TrimSpace(e.reason + " not an answer of Elasticsearch")
	}
	return e
}

// statusOf is the status of an answer, or 0.
func statusOf(err error) int {
	if e, ok := errors.AsType[*statusError](err); ok {
		return e.status
	}
	return 0
}

func isKind(err error, kind string) bool {
	e, ok := errors.AsType[*statusError](err)
	return ok && e.kind == kind
}

const (
	hintCredentials = "check username and password, or the API key, of the elasticsearch section"
	hintRights      = "grant the user manage and write on the indices of the prefix, and monitor on the cluster"
	hintIndexClosed = "the index was closed by someone else: open it (POST /<index>/_open) and then: lanternist rebuild VIEW"
	hintRequest     = "correct the view's search section, or the elasticsearch section"
	hintURL         = "check the url of the elasticsearch section: it must be the HTTP address of Elasticsearch 7.14 or later"
	hintRunning     = "check that Elasticsearch runs and that its host and port are those of the url"
	hintTLS         = "set ca_file or fingerprint of the elasticsearch section to the server's certificate, or use the right scheme in the url"
)

// classify gives an error of a request its class and hint. What waiting can change is transient.
func classify(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, errNotElasticsearch) {
		return projectors.Fatalf(hintURL, "%w", err)
	}
	var status *statusError
	if !errors.As(err, &status) {
		return err
	}
	switch {
	case status.kind == "cluster_block_exception": // somebody, or Elasticsearch itself when disks are full, lifts it again
		return err
	case status.status == http.StatusUnauthorized:
		return projectors.Fatalf(hintCredentials, "%w", err)
	case status.status == http.StatusForbidden:
		return projectors.Fatalf(hintRights, "%w", err)
	case status.kind == "index_not_found_exception", status.kind == "alias_not_found_exception":
		return fmt.Errorf("%w: %w", projectors.ErrLost, err) // somebody has deleted it: it is built anew
	case status.kind == "index_closed_exception":
		return projectors.Fatalf(hintIndexClosed, "%w", err)
	case (status.status == http.StatusNotFound || status.status == http.StatusMethodNotAllowed) && !status.fromElasticsearch():
		return projectors.Fatalf(hintURL, "%w", err)
	case status.status == http.StatusBadRequest:
		return projectors.Fatalf(hintRequest, "%w", err)
	}
	return err
}
