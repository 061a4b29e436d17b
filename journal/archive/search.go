package archive

import (
	"context"
	"errors"
	"sort"

	"github.com/lanternist/lanternist/journal"
)

// Search implements journal.Archive. A file that is damaged matters only when what is searched for may be in it.
func (a *Archive) Search(ctx context.Context, holds func(*journal.Entry) bool) (uint64, error) {
	l, err := a.listed()
	if err != nil {
		return 0, err
	}
	n, err := a.searchFiles(ctx, l, holds)
	if err != nil {
		return 0, err
	}
	if n == len(l.files) {
		return l.span().Last + 1, nil
	}
	x, err := a.index(ctx, l.files[n])
	if err != nil {
		return 0, err
	}
	if holds(&x.first) {
		return x.first.Sequence(), nil
	}
	number := sort.Search(len(x.places)-1, func(i int) bool { return holds(&x.places[i].ending) })
	b, err := a.block(ctx, l, n, x, number)
	if err != nil {
		return 0, err
	}
	at := sort.Search(len(b.ends), func(i int) bool {
		var e journal.Entry
		if err == nil {
			e, err = b.header(b.first + uint64(i))
		}
		return err != nil || holds(&e)
	})
	if err != nil {
		return 0, l.files[n].damaged(b.first, b.first+uint64(len(b.ends))-1, err)
	}
	return b.first + uint64(at), nil
}

// searchFiles is the number of the first file whose last entry holds. It looks past files that cannot be read; when it may
// be one of them, it is an error.
func (a *Archive) searchFiles(ctx context.Context, l *listing, holds func(*journal.Entry) bool) (int, error) {
	low, high := 0, len(l.files)
	var damage error // of the file at high
	for low < high {
		middle := (low + high) / 2
		at := middle
		x, err := a.index(ctx, l.files[at])
		first := err
		for errors.Is(err, journal.ErrCorrupt) && at+1 < high {
			at++
			x, err = a.index(ctx, l.files[at])
		}
		switch {
		case errors.Is(err, journal.ErrCorrupt): // nothing from the middle on can be read
			high, damage = middle, first
		case err != nil:
			return 0, err
		case !holds(x.last()):
			low = at + 1
		case at > middle && !holds(&x.first):
			return at, nil
		case at > middle:
			high, damage = middle, first
		default:
			high, damage = middle, nil
		}
	}
	return high, damage
}
