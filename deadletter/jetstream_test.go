package deadletter

import (
	"log/slog"
	"testing"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/internal/natsconn/natstest"
)

// Beyond one machine, too, and there a payload is larger than one value may be.
func TestInJetStream(t *testing.T) {
	server := natstest.Start(t, 0)
	home, err := control.OpenJetStream(t.Context(), server.URL(), "control", 1, slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(func() { must(t, home.Close()) })
	s := open(t, home)
	large := letterWith("large", 7, make([]byte, PayloadMaxBytes))
	must(t, s.Park(t.Context(), large))
	park(t, s, "p", "2", 8)
	park(t, s, "q/ä", "2", 8)
	s = open(t, home)
	if s.Count("p") != 2 || s.Count("q/ä") != 1 {
		t.Errorf("%d and %d letters", s.Count("p"), s.Count("q/ä"))
	}
	wantList(t, s, Filter{}, "p large@7", "p 2@8", "q/ä 2@8")
	must(t, s.List(t.Context(), Filter{DocumentID: "large"}, func(l Letter) error {
		l, ok, err := s.Get(t.Context(), l.ID)
		if !ok || err != nil || len(l.Payload) != PayloadMaxBytes || len(l.Event) != PayloadMaxBytes {
			t.Errorf("%d bytes: %t %v", len(l.Payload), ok, err)
		}
		return nil
	}))
	must(t, s.Resolve(t.Context(), "p", "large", 7))
	if n, err := s.Move(t.Context(), Filter{Projector: "q/ä"}, "p", nil); n != 1 || err != nil {
		t.Errorf("%d moved: %v", n, err)
	}
	wantList(t, s, Filter{}, "p 2@8")
	if n, err := s.DiscardAll(t.Context(), Filter{}, nil, nil); n != 1 || err != nil {
		t.Errorf("%d discarded: %v", n, err)
	}
	must(t, home.List(t.Context(), "", func(key string, _ []byte) error { t.Errorf("%s is left", key); return nil }))
}
