package httpapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/projectors/cache"
)

// anything answers every id.
func anything(id string) (cache.Document, error) {
	return cache.Document{ID: id, Version: 3, Body: []byte(`{}`)}, nil
}

func TestTokenAlreadyReached(t *testing.T) {
	w := newWorld(t, nil)
	w.docs.get = anything
	w.cache.advance(0x20, 9)
	w.source.heard(0x20)
	for _, after := range []string{"0/20", "0/1", "0/20@" + epoch} {
		w.get("/v1/views/orders/1?wait=0s&after="+after).want(t, 200).header(t, "Lanternist-Position", "0/20@"+epoch)
	}
	if w.source.requests != 0 {
		t.Errorf("%d keepalives were asked for, and none was needed", w.source.requests)
	}
}

// TestWaitOnQuietSource: nothing moves the watermark but keepalives, and the first ones are answered too early.
func TestWaitOnQuietSource(t *testing.T) {
	w := newWorld(t, nil)
	w.docs.get = anything
	var answers atomic.Int64
	w.source.answer = func() {
		if n := answers.Add(1); n > 3 {
			w.cache.advance(pglogrepl.LSN(n), 9)
		}
	}
	w.get("/v1/views/orders/1?after=0/6&wait=30s").want(t, 200).header(t, "Lanternist-Position", "0/6@"+epoch)
}

func TestDocumentIsReadAfterTheWait(t *testing.T) {
	w := newWorld(t, nil)
	w.docs.get = func(id string) (cache.Document, error) {
		if progress, _ := w.cache.Watermark(); progress.LSN < 0x20 {
			return cache.Document{}, errors.New("read too early")
		}
		return anything(id)
	}
	w.source.answer = func() { w.cache.advance(0x20, 9) }
	w.get("/v1/views/orders/1?after=0/20").want(t, 200)
}

func TestWaitTimesOut(t *testing.T) {
	w := newWorld(t, nil)
	w.docs.get = func(string) (cache.Document, error) { return cache.Document{}, errors.New("must not be read") }
	w.cache.advance(0x10, 9)
	r := w.get("/v1/views/orders/1?after=0/20&wait=1ms").want(t, 504).header(t, "Retry-After", "1", "Lanternist-Position", "0/10@"+epoch)
	p := r.problem(t)
	if p.Reached != "0/10@"+epoch || p.Wanted != "0/20@"+epoch || p.Status != 504 || p.Title == "" {
		t.Errorf("got %s", r.body)
	}
	w.get("/v1/views/orders?customer_id=1&after=0/20&wait=1ms").want(t, 504)
	w.get("/v1/views/orders/search?after=0/20&wait=1ms").want(t, 504)
	w.get("/v1/views/orders/1?after=0/20&wait=0s").want(t, 504)
}

func TestStoppedProjector(t *testing.T) {
	w := newWorld(t, nil)
	w.cache.status.State, w.cache.status.Error = projectors.StateStopped, "wrong password for secret"
	r := w.get("/v1/views/orders/1?after=0/20&wait=1ms").want(t, 503)
	if strings.Contains(string(r.body), "secret") {
		t.Errorf("the sink's own words are for the log: %s", r.body)
	}
}

func TestTokenOfAnotherEpoch(t *testing.T) {
	w := newWorld(t, nil)
	w.docs.get = anything
	w.cache.advance(0x20, 9)
	for _, after := range []string{"0/1@7301234567890123456-2", "0/1@1-1", "xid:1@1-1"} {
		for _, path := range []string{"/v1/views/orders/1?after=", "/v1/views/orders?customer_id=1&after=", "/v1/views/orders/search?after="} {
			p := w.get(path+after).want(t, 410).problem(t)
			if !strings.Contains(p.Detail, epoch) {
				t.Errorf("the problem does not name the source's epoch: %s", p.Detail)
			}
		}
	}
}

func TestMalformedTokens(t *testing.T) {
	w := newWorld(t, nil)
	for _, query := range []string{"after=now", "after=741", "after=xid:", "after=0/1%40x", "after=0/1&wait=soon", "after=0/1&wait=-1s", "after=0/1&wait=31s", "wait=2"} {
		p := w.get("/v1/views/orders/1?"+query).want(t, 422).problem(t)
		if len(p.Errors) != 1 || !strings.HasPrefix(p.Errors[0].Location, "query.") || p.Errors[0].Message == "" {
			t.Errorf("%s: %+v", query, p)
		}
	}
	p := w.get("/v1/views/orders/1?after=now").want(t, 422).problem(t)
	if !strings.Contains(p.Errors[0].Message, "0/16B3748") || !strings.Contains(p.Errors[0].Message, "xid:") {
		t.Errorf("the problem does not say what is accepted: %+v", p.Errors[0])
	}
}

func TestTooManyWaiters(t *testing.T) {
	w := newWorld(t, func(cfg *Config, _ *Parts) { cfg.MaxWaiters = 2 })
	w.docs.get = anything
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() { w.get("/v1/views/orders/1?after=0/20&wait=30s").want(t, 200) })
	}
	devstack.Eventually(t, time.Minute, func() error {
		if n := w.server.Status().Waiting; n != 2 {
			return fmt.Errorf("%d are waiting", n)
		}
		return nil
	})
	w.get("/v1/views/orders/1?after=0/20&wait=30s").want(t, 503).header(t, "Retry-After", "1")
	w.get("/v1/views/orders/1").want(t, 200) // who does not wait is answered
	w.cache.advance(0x20, 9)
	all.Wait()
	w.get("/v1/views/orders/1?after=0/20&wait=30s").want(t, 200)
}

// TestClientGoesAway: a request that nobody waits for any more frees its place.
func TestClientGoesAway(t *testing.T) {
	w := newWorld(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := w.server.reach(ctx, w.cache, Freshness{After: "0/20", Wait: "30s"}, 0)
		done <- err
	}()
	devstack.Eventually(t, time.Minute, func() error {
		if n := len(w.server.waiters); n != 1 {
			return fmt.Errorf("%d are waiting", n)
		}
		return nil
	})
	cancel()
	p, ok := errors.AsType[*Problem](<-done)
	if !ok || p.Status != statusClientGone || len(w.server.waiters) != 0 {
		t.Errorf("got %+v, %d are waiting", p, len(w.server.waiters))
	}
}

func TestStaleness(t *testing.T) {
	w := newWorld(t, nil)
	w.cache.advance(0x20, 9)
	stale := func() time.Duration { return time.Since(w.server.position(w.cache, w.cache.progress).at) }

	w.source.stats.Keepalive.Time, w.source.stats.Keepalive.WALEnd = time.Now().Add(-time.Hour), 0x20
	if d := stale(); d < time.Hour || d > 2*time.Hour {
		t.Errorf("reached the keepalive of an hour ago: %v stale", d)
	}
	if w.source.requests != 1 {
		t.Errorf("%d keepalives were asked for by an answer that is an hour old", w.source.requests)
	}
	w.source.heard(0x30)
	w.cache.status.LagSeconds = 7200
	if d := stale(); d < 2*time.Hour {
		t.Errorf("has not reached the keepalive, two hours behind: %v stale", d)
	}
	w.cache.advance(0x30, 10)
	if d := stale(); d > time.Hour {
		t.Errorf("reached the keepalive of just now: %v stale", d)
	}
}

// outcomes answers for transactions.
type outcomes func(xid uint64) (Outcome, pglogrepl.LSN, error)

func (o outcomes) resolve(_ context.Context, xid uint64) (Outcome, pglogrepl.LSN, error) {
	return o(xid)
}

func TestTransactionTokens(t *testing.T) {
	w := newWorld(t, nil)
	w.docs.get = anything
	w.cache.advance(0x20, 9)
	asked := map[uint64]int{}
	w.server.transactions = outcomes(func(xid uint64) (Outcome, pglogrepl.LSN, error) {
		asked[xid]++
		switch xid {
		case 1:
			return Committed, 0x20, nil
		case 2:
			return Committed, 0x21, nil
		case 3:
			return Aborted, 0, nil
		case 4:
			if asked[xid] < 3 {
				return InProgress, 0x20, nil
			}
			return Committed, 0x20, nil
		case 5:
			return InProgress, 0x20, nil
		case 6:
			return Unborn, 0, nil
		case 7:
			return 0, 0, errUnresolved
		}
		return 0, 0, errors.New("dial tcp 10.1.2.3: refused")
	})
	get := func(xid int, status int) reply {
		t.Helper()
		wait := "30s"
		if status == 504 {
			wait = "5ms"
		}
		return w.get(fmt.Sprintf("/v1/views/orders/1?after=xid:%d@%s&wait=%s", xid, epoch, wait)).want(t, status)
	}
	get(1, 200).header(t, "Lanternist-Position", "0/20@"+epoch)
	get(2, 504)
	if p := get(3, 409).problem(t); !strings.Contains(p.Detail, "rolled back") {
		t.Errorf("got %+v", p)
	}
	get(4, 200)
	if p := get(5, 504).problem(t); p.Wanted != "xid:5@"+epoch || p.Reached != "0/20@"+epoch {
		t.Errorf("got %+v", p)
	}
	get(6, 422)
	get(7, 422)
	if r := get(8, 503); strings.Contains(string(r.body), "10.1.2.3") {
		t.Errorf("got %s", r.body)
	}
}
