package search

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// openPointInTime pins what an alias shows now, for as long as it is used at least every keepAlive.
func (c *Client) openPointInTime(ctx context.Context, alias string, keepAlive time.Duration) (string, error) {
	var answer struct {
		ID string `json:"id"`
	}
	err := c.do(ctx, call{method: http.MethodPost, path: "/" + alias + "/_pit", query: params("keep_alive", duration(keepAlive))}, &answer)
	return answer.ID, err
}

// closePointInTime frees a point in time. One that is gone already is no error.
func (c *Client) closePointInTime(ctx context.Context, id string) error {
	err := c.do(ctx, call{method: http.MethodDelete, path: "/_pit", body: map[string]string{"id": id}}, nil)
	if err != nil && statusOf(err) != http.StatusNotFound {
		return fmt.Errorf("close point in time: %w", err)
	}
	return nil
}

// releaseTimeout bounds what a reader waits for a point in time to be closed.
const releaseTimeout = 2 * time.Second

// release closes a point in time that nobody will use again, also when the reader has gone. An answer that was
// had is not given up because that fails: the keep-alive frees what is left.
func (c *Client) release(ctx context.Context, id string) {
	c.cursors.use(id, "")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	_ = c.closePointInTime(ctx, id)
}

// duration writes a time span the way Elasticsearch reads it.
func duration(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }
