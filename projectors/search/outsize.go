package search

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/lanternist/lanternist/projectors"
)

const (
	// outsizeLeast is the size from which a request with a single document may be what there is no room for; a smaller one is
	// refused because of what else the cluster does.
	outsizeLeast = 1 << 20
	// outsizePatience is how long such a document is refused, while small requests are taken, before there will be no room for it.
	outsizePatience = 20 * time.Second
	// outsizeForgotten is how long after its last refusal a document begins anew.
	outsizeForgotten = 10 * time.Minute
	// outsizeKept bounds how many documents are known at once.
	outsizeKept = 1000
)

// outsizes knows since when documents have been refused for want of room, each alone in its request. It is safe for concurrent use.
type outsizes struct {
	mu      sync.Mutex
	refused map[string]*refusals
}

// refusals are those of one document.
type refusals struct {
	first, last time.Time
	times       int
}

// note counts a refusal and returns all so far.
func (o *outsizes) note(document string, times int) refusals {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	r := o.refused[document]
	if r == nil || now.Sub(r.last) > outsizeForgotten {
		if o.refused == nil || len(o.refused) >= outsizeKept {
			o.refused = map[string]*refusals{}
		}
		r = &refusals{first: now}
		o.refused[document] = r
	}
	r.last = now
	r.times += times
	return *r
}

// forget tells that a document was taken.
func (o *outsizes) forget(document string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.refused, document)
}

// operationBytes is what Elasticsearch says when a request has more than it takes of all requests together, which a node's
// settings and heap decide (indexing_pressure.memory.limit).
var operationBytes = regexp.MustCompile(`(coordinating|primary)_operation_bytes=(\d+), max_(?:coordinating|coordinating_and_primary|primary)_bytes=(\d+)`)

// never says whether a refusal for want of room is for ever: an idle cluster would have no room either.
func never(refused error) bool {
	m := operationBytes.FindStringSubmatch(refused.Error())
	if m == nil {
		return false
	}
	operation, err := strconv.ParseUint(m[2], 10, 64)
	most, mostErr := strconv.ParseUint(m[3], 10, 64)
	return err == nil && mostErr == nil && operation > most
}

// outsize judges a document that was refused for want of room, alone in its request, as often as a Write tries. While the cluster
// has no room for a small request either, it is nothing about the document: the result is nil. Else it is why this one is not
// taken: permanent when waiting has not helped, or cannot.
func (w *write) outsize(ctx context.Context, doc, sent int, refused error) error {
	if sent < outsizeLeast {
		return nil
	}
	const hint = "raise the heap of Elasticsearch, or indexing_pressure.memory.limit, or leave fields out of the view"
	size := len(w.docs[doc].Body)
	if never(refused) {
		return projectors.Permanentf("the document has %d bytes, more than Elasticsearch takes at once (%s): %w", size, hint, refused)
	}
	if !w.takesSmall(ctx) {
		return nil
	}
	r := w.client.outsizes.note(w.path+w.docs[doc].ID, bulkAttempts)
	if long := r.last.Sub(r.first); long >= w.client.outsizePatience {
		return projectors.Permanentf("the document has %d bytes, for which Elasticsearch had no room %d times in %s, while it took small requests (%s): %w",
			size, r.times, long.Round(time.Second), hint, refused)
	}
	return fmt.Errorf("%w: elasticsearch had no room for the document's %d bytes: %w", projectors.ErrOthersTaken, size, refused)
}

// takesSmall says whether the cluster takes a small write now: one that changes nothing, because there is no such document.
func (w *write) takesSmall(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, w.client.cfg.Timeout)
	defer cancel()
	body := fmt.Appendf(nil, "{\"update\":{\"_id\":%q}}\n{\"doc\":{}}\n", rand.Text())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.path, bytes.NewReader(body))
	if err != nil {
		return false
	}
	req.URL.RawQuery = "require_alias=true&filter_path=" + bulkFilter
	req.Header.Set("Content-Type", "application/x-ndjson")
	var reply bytes.Buffer
	if err := w.client.exchange(req, &reply); err != nil {
		return false
	}
	var answer struct {
		Items []map[string]bulkItem `json:"items"`
	}
	if err := json.Unmarshal(reply.Bytes(), &answer); err != nil || len(answer.Items) != 1 {
		return false
	}
	return answer.Items[0]["update"].Status == http.StatusNotFound
}
