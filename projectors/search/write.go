package search

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/views"
)

const (
	// idBytesMax is Elasticsearch's limit; a longer id would fail the whole request.
	idBytesMax = 512
	// bulkAttempts is how often documents are sent that the cluster has no room for, before the caller is told.
	bulkAttempts = 4
)

// write is one Write under way: its documents are cut into chunks, which a few workers send.
type write struct {
	client   *Client
	path     string // of the bulk request
	docs     []views.Document
	tail     []byte
	mu       sync.Mutex
	next     int // first document that is in no chunk yet
	failures []projectors.Failure
	newer    []int  // documents that the index holds in a newer version
	answered []bool // by document, when there is more than one request: applied, or named in failures
}

// Write implements projectors.Generation.
func (g *Generation) Write(ctx context.Context, version event.Offset, docs []views.Document) ([]projectors.Failure, error) {
	w := &write{client: g.store.client, path: "/" + g.names.writer + "/_bulk", docs: docs, tail: appendTail(nil, version)}
	if err := w.run(ctx); err != nil {
		return nil, fmt.Errorf("write %d documents to %s: %w", len(docs), g.names.index, err)
	}
	return w.failures, nil
}

// run sends everything. The first chunk is sent by the caller's goroutine; others are started while documents are left.
func (w *write) run(ctx context.Context) error {
	first := w.client.chunk()
	w.fill(first)
	if w.done() { // the common case: one request
		return w.finish(ctx, first)
	}
	w.answered = make([]bool, len(w.docs))
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.work(groupCtx, first) })
	for range w.client.cfg.BulkWorkers - 1 {
		group.Go(func() error {
			c := w.client.chunk()
			w.fill(c)
			return w.work(groupCtx, c)
		})
	}
	err := group.Wait()
	if err != nil && ctx.Err() == nil && w.partly(err) {
		return nil
	}
	return err
}

// partly names the documents that no request was answered for, when others were, and the error is one that waiting may mend: else a
// cluster that is so slow that each Write has a request without an answer would be sent the same documents for ever.
func (w *write) partly(err error) bool {
	if projectors.Class(err) != projectors.Transient || !slices.Contains(w.answered, true) {
		return false
	}
	for _, f := range w.failures {
		w.answered[f.Index] = true
	}
	for i, answered := range w.answered {
		if !answered {
			w.failures = append(w.failures, projectors.Failure{Index: i, Err: err})
		}
	}
	return true
}

// took notes which documents a request was answered for.
func (w *write) took(c *chunk, again []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.answered == nil {
		return
	}
	for _, i := range c.index {
		w.answered[i] = true
	}
	for _, i := range again {
		w.answered[i] = false
	}
}

// work sends c and then chunk after chunk until no document is left.
func (w *write) work(ctx context.Context, c *chunk) error {
	for len(c.index) > 0 {
		if err := w.finish(ctx, c); err != nil {
			return err
		}
		c = w.client.chunk()
		w.fill(c)
	}
	w.client.recycle(c)
	return nil
}

func (w *write) done() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.next == len(w.docs)
}

// fill puts the next documents into c, up to the size in use, and sets aside those that cannot be sent at all.
func (w *write) fill(c *chunk) {
	target := w.client.size.Bytes()
	w.mu.Lock()
	defer w.mu.Unlock()
	size := 0
	for ; w.next < len(w.docs); w.next++ {
		d := &w.docs[w.next]
		if d.Body == nil && (d.ID == "" || len(d.ID) > idBytesMax) {
			continue // gone already: the index cannot have had it
		}
		if err := unsendable(d); err != nil {
			w.failures = append(w.failures, projectors.Failure{Index: w.next, Err: err})
			continue
		}
		size += sizeOf(d)
		if size > target && len(c.index) > 0 {
			return
		}
		c.index = append(c.index, w.next)
	}
}

// unsendable says what would make a whole request fail.
func unsendable(d *views.Document) error {
	switch {
	case d.ID == "":
		return projectors.Permanentf("the document id is empty: Elasticsearch has no such id")
	case len(d.ID) > idBytesMax:
		return projectors.Permanentf("the document id has %d bytes: Elasticsearch takes at most %d", len(d.ID), idBytesMax)
	case bytes.IndexByte(d.Body, '\n') >= 0:
		return projectors.Permanentf("the document is not on one line")
	}
	return nil
}

// finish sends a chunk until each of its documents is applied or named. It gives up c.
func (w *write) finish(ctx context.Context, c *chunk) error {
	defer func() { w.client.recycle(c) }()
	pauses := backoff.New(backoff.Config{Min: 100 * time.Millisecond, Max: time.Second})
	for attempt := 1; len(c.index) > 0; attempt++ {
		reusable, out, err := w.send(ctx, c)
		sent := len(c.body)
		if !reusable {
			c = &chunk{index: c.index} // the transport may still read the body
		}
		switch status := statusOf(err); {
		case status == http.StatusRequestEntityTooLarge:
			w.shrink(c, sent)
			return w.split(ctx, c, err)
		case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
			out.again, out.refused = append(out.again[:0], c.index...), err
		case err != nil:
			return err
		}
		w.name(out.failures)
		w.took(c, out.again)
		if len(out.again) == 0 {
			w.forget(c, sent)
			return nil
		}
		w.shrink(c, sent)
		w.client.pushbacks.Add(1)
		if len(c.index) == 1 && (attempt == bulkAttempts || never(out.refused)) {
			if outsize := w.outsize(ctx, c.index[0], sent, out.refused); outsize != nil {
				w.name([]projectors.Failure{{Index: c.index[0], Err: outsize}})
				w.took(c, nil)
				return nil
			}
		}
		if attempt == bulkAttempts {
			if err != nil {
				return err
			}
			w.nameAll(out.again, out.refused)
			return nil
		}
		c.index = append(c.index[:0], out.again...)
		if err := pauses.Wait(ctx); err != nil {
			return errors.Join(err, out.refused)
		}
	}
	return nil
}

// shrink has the next requests be smaller than one that was refused, unless that had a single document larger than they are:
// it says nothing about theirs.
func (w *write) shrink(c *chunk, sent int) {
	if len(c.index) > 1 || sent <= w.client.size.Bytes() {
		w.client.size.Refused(sent)
	}
}

// forget tells that what was sent was taken.
func (w *write) forget(c *chunk, sent int) {
	if len(c.index) == 1 && sent >= outsizeLeast {
		w.client.outsizes.forget(w.path + w.docs[c.index[0]].ID)
	}
}

// split sends a request that was too large in two halves. A single document that is too large is named.
func (w *write) split(ctx context.Context, c *chunk, tooLarge error) error {
	if len(c.index) == 1 {
		doc := c.index[0]
		w.name([]projectors.Failure{{Index: doc, Err: projectors.Permanentf(
			"the document has %d bytes, more than Elasticsearch takes in one request (http.max_content_length): %w",
			len(w.docs[doc].Body), tooLarge)}})
		return nil
	}
	half := len(c.index) / 2
	for _, part := range [][]int{c.index[:half], c.index[half:]} {
		smaller := w.client.chunk()
		smaller.index = append(smaller.index, part...)
		if err := w.finish(ctx, smaller); err != nil {
			return err
		}
	}
	return nil
}

// send performs one bulk request. reusable says whether the transport is done with the body of c.
func (w *write) send(ctx context.Context, c *chunk) (reusable bool, out outcome, err error) {
	c.body = c.body[:0]
	c.reply.Reset()
	for _, i := range c.index {
		c.body = appendDocument(c.body, &w.docs[i], w.tail)
	}
	ctx, cancel := context.WithTimeout(ctx, w.client.cfg.BulkTimeout)
	defer cancel()
	body := &bulkBody{Reader: bytes.NewReader(c.body)}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.path, body)
	if err != nil {
		return true, out, fmt.Errorf("make bulk request: %w", err)
	}
	req.URL.RawQuery = "require_alias=true&filter_path=" + bulkFilter
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.ContentLength = int64(len(c.body))
	req.GetBody = func() (io.ReadCloser, error) {
		body.readers.Add(1)
		return &bulkBody{Reader: bytes.NewReader(c.body), parent: body}, nil
	}
	began := time.Now()
	body.readers.Add(1)
	err = w.client.exchange(req, &c.reply)
	reusable = body.readers.Load() == 0
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			w.client.size.Refused(len(c.body))
		}
		if statusOf(err) == http.StatusRequestEntityTooLarge {
			return reusable, out, err
		}
		return reusable, out, classify(err)
	}
	w.client.size.Accepted(len(c.body), time.Since(began))
	out, err = readReply(c.reply.Bytes(), c.index)
	w.outdated(out.newer)
	return reusable, out, err
}

// bulkBody counts who may still read a chunk's body: an answer can come before the request was read to its end, and the
// transport closes the body when it has stopped reading.
type bulkBody struct {
	*bytes.Reader
	parent  *bulkBody // nil for the first
	readers atomic.Int32
	closed  atomic.Bool
}

// Close tells that the body is not read any more.
func (b *bulkBody) Close() error {
	if !b.closed.Swap(true) {
		if b.parent != nil {
			b.parent.readers.Add(-1)
		} else {
			b.readers.Add(-1)
		}
	}
	return nil
}

func (w *write) name(failures []projectors.Failure) {
	if len(failures) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, failures...)
}

func (w *write) outdated(docs []int) {
	if len(docs) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.newer = append(w.newer, docs...)
}

func (w *write) nameAll(docs []int, err error) {
	failures := make([]projectors.Failure, len(docs))
	for i, doc := range docs {
		failures[i] = projectors.Failure{Index: doc, Err: fmt.Errorf("elasticsearch had no room for the document: %w", err)}
	}
	w.name(failures)
}

// chunk is an empty chunk, used before if there is one.
func (c *Client) chunk() *chunk {
	if used, ok := c.buffers.Get().(*chunk); ok {
		used.reset()
		return used
	}
	return &chunk{}
}

// recycle keeps a chunk for the next Write, unless a single large document has made it huge.
func (c *Client) recycle(used *chunk) {
	if cap(used.body) <= 2*c.cfg.BulkBytes {
		c.buffers.Put(used)
	}
}
