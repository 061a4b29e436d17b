package cache

import (
	"context"

	"github.com/lanternist/lanternist/views"
)

// gone is a view of which only the name is left.
type gone string

func (g gone) Name() string             { return string(g) }
func (gone) Hash() string               { return "" }
func (gone) Cache() *views.CacheOptions { return &views.CacheOptions{} }

// Drop removes what Redis holds of a view that nobody defines any more. See Store.Drop.
func (c *Client) Drop(ctx context.Context, view string) error { return c.Store(gone(view)).Drop(ctx) }
