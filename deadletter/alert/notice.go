package alert

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/lanternist/lanternist/deadletter"
)

// What a notice is about.
const (
	Raised  = "raised"
	Cleared = "cleared"
)

// Headers of a notice.
const (
	HeaderTimestamp = "Lanternist-Timestamp" // seconds since 1970, of the attempt
	HeaderSignature = "Lanternist-Signature" // see Sign
)

// Notice is what is posted, as JSON.
type Notice struct {
	ID         string         `json:"id"` // the same at each attempt
	Event      string         `json:"event"`
	Time       time.Time      `json:"time"` // when the threshold was crossed
	Projector  string         `json:"projector"`
	Letters    int            `json:"letters"`
	Classes    map[string]int `json:"classes"`         // letters by class
	Oldest     time.Time      `json:"oldest,omitzero"` // when the oldest was parked
	Thresholds Thresholds     `json:"thresholds"`
	Help       string         `json:"help"` // a command
}

// Thresholds are those that were crossed; 0 is none.
type Thresholds struct {
	Letters    int     `json:"letters"`
	AgeSeconds float64 `json:"age_seconds"`
}

func (n *Notice) add(d deadletter.Depth) {
	n.Letters += d.Letters
	n.Classes[d.Class] += d.Letters
	if n.Oldest.IsZero() || d.Oldest.Before(n.Oldest) {
		n.Oldest = d.Oldest
	}
}

// Sign is the signature of a body at a timestamp: "sha256=" and the HMAC-SHA256, in hexadecimal, of the timestamp, a dot and the
// body.
func Sign(secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(timestamp)) // never fails, as the others
	mac.Write([]byte{'.'})
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// send sends what is to be told, oldest first of each projector. The first that fails ends it: the others would, too.
func (a *Alert) send(ctx context.Context) {
	for _, name := range slices.Sorted(maps.Keys(a.records)) {
		for r := a.records[name]; r != nil && len(r.Notices) > 0; r = a.records[name] {
			if time.Now().Before(a.next) || ctx.Err() != nil {
				return
			}
			err := a.deliver(ctx, *r)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				first := a.waits.Attempts() == 0
				wait := a.waits.Next()
				a.next = time.Now().Add(wait)
				if first {
					a.log.Warn("alert not delivered, trying again", "projector", name, "error", err)
				}
				a.tell(err)
				return
			}
			a.waits.Reset()
			a.tell(nil)
		}
	}
}

// deliver sends the first notice of a record, and notes that it was taken.
func (a *Alert) deliver(ctx context.Context, r record) error {
	if !r.Tried {
		r.Tried = true
		if err := a.save(ctx, r); err != nil {
			return err
		}
	}
	if err := a.post(ctx, r.Notices[0]); err != nil {
		return err
	}
	a.log.Info("alert delivered", "projector", r.Projector, "event", r.Notices[0].Event)
	r.Notices, r.Tried = r.Notices[1:], false
	return a.save(ctx, r)
}

func (a *Alert) post(ctx context.Context, n Notice) error {
	body, err := json.Marshal(n)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return errors.New("the alert's url cannot be posted to") // it may hold a secret
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "lanternist")
	req.Header.Set(HeaderTimestamp, timestamp)
	req.Header.Set(HeaderSignature, Sign(a.cfg.Secret, timestamp, body))
	res, err := a.client.Do(req)
	if outer, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("post alert: %w", outer.Err) // without the url
	}
	if err != nil {
		return fmt.Errorf("post alert: %w", err)
	}
	defer res.Body.Close()
	if _, err := io.CopyN(io.Discard, res.Body, 64<<10); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("post alert: %w", err)
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("post alert: it was answered %s", res.Status)
	}
	return nil
}
