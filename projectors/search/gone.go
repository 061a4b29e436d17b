package search

import "context"

// Drop removes what the cluster holds of a view that nobody defines any more. See Store.Drop.
func (c *Client) Drop(ctx context.Context, view string) error {
	return newStore(c, view, nil, nil).Drop(ctx)
}
