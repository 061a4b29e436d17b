package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/projectors/stream"
)

// relay notes which events it is handed, live and again.
type relay struct {
	mu          sync.Mutex
	live, again []event.Offset
}

func (r *relay) Handle(ctx context.Context, events []event.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range events {
		if stream.Replaying(ctx) {
			r.again = append(r.again, events[i].Offset)
		} else {
			r.live = append(r.live, events[i].Offset)
		}
	}
	return nil
}

// A stream is listed, watched and replayed by name as the projectors of views are.
func TestStreamProjector(t *testing.T) {
	w, r := newWorld(t, nil), &relay{}
	store, err := control.OpenPebble(t.TempDir(), quiet)
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	p, err := stream.New(stream.Config{Name: "relay"}, r, stream.Parts{Journal: w.journal, Control: store, Letters: w.letters}, quiet)
	must(t, err)
	w.server.streams = []Replayer{p}
	appendOrders(t, w, 5)
	all := allEvents(t, w, "")
	w.get("/readyz").want(t, 503) // it does not run
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	defer func() { stop(); <-ended }()

	devstack.Eventually(t, time.Minute, func() error {
		listed := into[projectorsBody](t, w.get("/v1/projectors").want(t, 200)).Projectors
		at := slices.IndexFunc(listed, func(s ProjectorStatus) bool { return s.Projector == "relay" })
		if at < 0 || listed[at].Sink != "stream" || listed[at].Events != 15 || listed[at].Offset != all[14] || listed[at].LSN != "0/5030" {
			return fmt.Errorf("%+v", listed)
		}
		return nil
	})
	w.get("/readyz").want(t, 200)
	if s := into[Status](t, w.get("/v1/status").want(t, 200)); len(s.Projectors) != 4 || !s.Ready {
		t.Errorf("status: %+v", s.Projectors)
	}
	const path = "/v1/projectors/relay/replay"
	for query, want := range map[string][]event.Offset{
		"from=0": all, "from=0/2000&to=0/3000": all[3:9], fmt.Sprintf("from=%d&to=%d", all[4], all[6]): all[3:9],
		"from=2026-11-20T23:06:12Z&to=2026-11-20T23:07:11Z": all[3:6],
	} {
		r.mu.Lock()
		r.again = nil
		r.mu.Unlock()
		w.do(http.MethodPost, path+"?"+query).want(t, 202)
		devstack.Eventually(t, time.Minute, func() error {
			if b := into[replayBody](t, w.get(path).want(t, 200)); b.State != JobDone || b.Touching != int64(len(want)) {
				return fmt.Errorf("%+v", b)
			}
			return nil
		})
		r.mu.Lock()
		if !slices.Equal(r.again, want) || !slices.Equal(r.live, all) {
			t.Errorf("%s: %v, live %v", query, r.again, r.live)
		}
		r.mu.Unlock()
	}
}

func TestEventsOfARange(t *testing.T) {
	w := newWorld(t, nil)
	appendOrders(t, w, 5)
	all := allEvents(t, w, "")
	for query, want := range map[string][]event.Offset{
		"to=0/2000": all[:6], "from=0/2000&to=0/3000": all[3:9], "from=0/2000&to=0/1000": nil,
		fmt.Sprintf("to=%d", all[4]): all[:6], fmt.Sprintf("from=%d&to=%d", all[4], all[4]): all[5:6],
		"from=2026-11-20T23:06:12Z&to=2026-11-20T23:08:12Z": all[3:12], "from=beginning": nil, "to=end": all,
		"to=end&table=public.orders": all, "to=end&table=public.items": nil, "to=end&table=sales.*&table=public.*": all,
		"to=end&type=orders.created": all, "to=end&type=orders.deleted": nil, "to=end&type=orders.*&table=public.orders": all,
	} {
		if want == nil && strings.Contains(query, "beginning") {
			w.get("/v1/events?"+query).want(t, 422)
			continue
		}
		var got []event.Offset
		path := "/v1/events?limit=2&" + query
		for next := path; ; {
			body := into[eventsBody](t, w.get(next).want(t, 200))
			for _, raw := range body.Events {
				var envelope struct{ Offset event.Offset }
				must(t, json.Unmarshal(raw, &envelope))
				got = append(got, envelope.Offset)
			}
			if body.Done {
				break
			}
			next = path + "&cursor=" + url.QueryEscape(body.Next)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", query, got, want)
		}
	}
	for _, query := range []string{"to=tomorrow", "cursor=0/1000", "table=orders", "type=*", "wait=soon"} {
		w.get("/v1/events?"+query).want(t, 422)
	}
}

// A request that waits is answered when there is something that it wants, or when its time is up.
func TestEventsAreWaitedFor(t *testing.T) {
	w := newWorld(t, nil)
	appendOrders(t, w, 1)
	head := fmt.Sprint(uint64(w.journal.Head().Offset))
	if body := into[eventsBody](t, w.get("/v1/events?wait=1ms&from="+head).want(t, 200)); len(body.Events) != 0 || body.Next != head || body.Done {
		t.Errorf("nothing came: %+v", body)
	}
	type answer struct {
		body eventsBody
		code int
	}
	answers := make(chan answer, 1)
	go func() {
		r := w.get("/v1/events?wait=20s&from=" + head)
		var body eventsBody
		_ = json.Unmarshal(r.body, &body)
		answers <- answer{body, r.StatusCode}
	}()
	appendOrder(t, w, 2)
	if a := <-answers; a.code != 200 || len(a.body.Events) != 3 {
		t.Errorf("something came: %+v", a)
	}
}
