package cache

import (
	"context"

	"github.com/lanternist/lanternist/views"
)

// named is a view of which only the name is left.
type named string

func (n named) Name() string             { return string(n) }
func (named) Hash() string               { return "" }
func (named) Cache() *views.CacheOptions { return &views.CacheOptions{} }

// Drop removes what Redis holds of a view that nobody defines any more. See Store.Drop.
func (c *Client) Drop(ctx context.Context, view string) error { return c.Store(named(view)).Drop(ctx) }
