package cache

import (
	"errors"
	"testing"
)

// TestForeignValuesAreOverwritten: what somebody else put in a document's place is told apart, and the next write wins.
func TestForeignValuesAreOverwritten(t *testing.T) {
	s, g := liveStore(t, testClient(t, nil), orders)
	for id, text := range map[string]string{"1": `{"by":"hand"}`, "2": "", "3": "0000000000000000001x", "4": "99999999999999999999999999999999"} {
		mustWrite(t, g, 10, order(id, "7", "", `"right"`))
		must(t, s.client.redis.Set(t.Context(), g.keys.documents+id, text, 0).Err())
		if _, _, err := s.Get(t.Context(), id); !errors.Is(err, ErrForeign) {
			t.Errorf("%q: got %v", text, err)
		}
		mustWrite(t, g, 10, order(id, "7", "", `"right"`))
		wantDocument(t, s, id, `"right" @10`)
	}
	wantLookup(t, s, byCustomer, "7", "1", "2", "3", "4")
}
