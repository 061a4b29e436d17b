package cache

import (
	"context"
	_ "embed"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/lanternist/lanternist/internal/sabotage"
)

//go:embed scripts/write.lua
var writeSource string

//go:embed scripts/lookup.lua
var lookupSource string

//go:embed scripts/promote.lua
var promoteSource string

//go:embed scripts/checkpoint.lua
var checkpointSource string

//go:embed scripts/prune.lua
var pruneSource string

var (
	writeScript      = redis.NewScript(compared(writeSource))
	lookupScript     = redis.NewScript(lookupSource)
	promoteScript    = redis.NewScript(promoteSource)
	checkpointScript = redis.NewScript(checkpointSource)
	pruneScript      = redis.NewScript(pruneSource)
)

// compared is the script that compares versions before it writes.
func compared(source string) string {
	if sabotage.Off(sabotage.Versions) {
		return strings.Replace(source, "if sub(old, 1, version_size) <= version or", "if true or", 1)
	}
	return source
}

// scriptLost is what the scripts answer when the generation is not what this process left it.
const scriptLost = -1

// run runs a script, sending its source only when Redis does not have it.
func (c *Client) run(ctx context.Context, s *redis.Script, keys []string, args ...any) *redis.Cmd {
	return s.Run(ctx, c.redis, keys, args...)
}

// isNoScript says whether Redis has to be sent a script's source.
func isNoScript(err error) bool {
	return errors.Is(err, redis.ErrNoScript) || redis.HasErrorPrefix(err, "NOSCRIPT")
}
