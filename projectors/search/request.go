package search

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/lanternist/lanternist/projectors"
)

// replyBytesMax bounds one answer: 10,000 hits of 25 KiB.
const replyBytesMax = 256 << 20

// call is one request.
type call struct {
	method  string
	path    string // begins with /
	query   url.Values
	body    any           // sent as JSON; nil sends nothing
	timeout time.Duration // 0: Config.Timeout
}

// do sends a request and decodes the JSON of a 2xx answer into reply, unless it is nil. Other answers are a *statusError.
func (c *Client) do(ctx context.Context, r call, reply any) error {
	var body io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	timeout := r.timeout
	if timeout == 0 {
		timeout = c.cfg.Timeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, r.path, body)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	req.URL.RawQuery = r.query.Encode()
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	var buf bytes.Buffer
	if err := c.exchange(req, &buf); err != nil {
		return err
	}
	if reply == nil {
		return nil
	}
	if err := json.Unmarshal(buf.Bytes(), reply); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}

// exchange performs a request and reads the body of a 2xx answer into reply. Other answers are a *statusError.
func (c *Client) exchange(req *http.Request, reply *bytes.Buffer) error {
	res, err := c.elastic.Perform(req)
	if err != nil {
		return &unreachableError{nodes: c.nodes, err: err}
	}
	defer res.Body.Close()
	n, err := reply.ReadFrom(io.LimitReader(res.Body, replyBytesMax+1))
	if err != nil {
		return projectors.Unanswered(fmt.Errorf("read answer: %w", err))
	}
	if n > replyBytesMax {
		return fmt.Errorf("answer is larger than %d bytes", replyBytesMax)
	}
	if res.StatusCode/100 != 2 {
		return newStatusError(res.StatusCode, res.Header, reply.Bytes())
	}
	if res.Header.Get("X-Elastic-Product") != "Elasticsearch" {
		return errNotElasticsearch
	}
	return nil
}
