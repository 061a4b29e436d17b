package cache

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/lanternist/lanternist/projectors"
)

// countMax is how many documents Count counts at most: it remembers 8 bytes of each.
const countMax = 8 << 20

// Documents implements projectors.Readable.
func (g *generation) Documents(ctx context.Context, ids []string) ([]projectors.Held, error) {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = g.keys.documents + id
	}
	values, err := g.intact(ctx, keys...)
	if err != nil {
		return nil, g.store.classify("read documents", err)
	}
	held := make([]projectors.Held, len(values))
	for i, v := range values {
		text, ok := v.(string)
		if !ok {
			held[i].Expired = g.store.ttl > 0
			continue
		}
		decoded, err := decodeValue(text)
		switch {
		case err != nil:
			held[i].Body = fmt.Appendf(nil, "%q", err.Error()) // which no document is equal to
		case !decoded.deleted:
			held[i].Body = []byte(decoded.body)
		}
	}
	return held, nil
}

// Count implements projectors.Readable. Documents that expire cannot be counted, nor more than 8 Mi of them. A scan
// may visit a key twice, so hashes of ids are remembered; two that are the same by chance make the count too small by one.
func (g *generation) Count(ctx context.Context) (int64, bool, error) {
	if g.store.ttl > 0 {
		return 0, false, nil
	}
	seed := maphash.MakeSeed()
	var seen []uint64
	tooMany := fmt.Errorf("more than %d documents", countMax)
	err := g.IDs(ctx, func(id string) error {
		if seen = append(seen, maphash.String(seed, id)); len(seen) < 2*countMax {
			return nil
		}
		slices.Sort(seen)
		if seen = slices.Compact(seen); len(seen) > countMax {
			return tooMany
		}
		return nil
	})
	if err == tooMany { //nolint:errorlint // it is this very one
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	slices.Sort(seen)
	return int64(len(slices.Compact(seen))), true, nil
}
