package cache

import (
	"strconv"

	"github.com/lanternist/lanternist/event"
)

// The keys of a view. The braces are a hash tag: all keys of a view are in one slot of a cluster, so that one script
// can read the pointer and the document it leads to, and change a document with its lookups.
//
//	<prefix>{<view>}:live                     string "<number>:<identity>" of the generation that readers see
//	<prefix>{<view>}:generations              hash  number → JSON record of each generation that has keys
//	<prefix>{<view>}:g<n>:identity            string given to the generation when it was created
//	<prefix>{<view>}:g<n>:writes              counter of calls of the write script
//	<prefix>{<view>}:g<n>:checkpoint          JSON
//	<prefix>{<view>}:g<n>:d:<id>              string: a document or tombstone (see value.go)
//	<prefix>{<view>}:g<n>:l:<lookup>:<value>  sorted set of ids, all of score 0: ordered by id
func (c *Client) viewKey(view string) string { return c.cfg.Prefix + "{" + view + "}:" }

// keys are the names of one generation's keys.
type keys struct {
	identity, writes, checkpoint string
	documents                    string // followed by the id
	lookups                      string // followed by lookup:value
	all                          string // begins all of them
}

func generationKeys(viewKey string, number int) keys {
	all := viewKey + "g" + strconv.Itoa(number) + ":"
	return keys{
		identity:   all + "identity",
		writes:     all + "writes",
		checkpoint: all + "checkpoint",
		documents:  all + "d:",
		lookups:    all + "l:",
		all:        all,
	}
}

// versionDigits is the width of a version in text. An offset has 63 bits; at one width, texts of decimal digits are
// ordered like their numbers in Lua, which has no exact integers above 2^53.
const versionDigits = 19

func appendVersion(dst []byte, version event.Offset) []byte {
	var digits [versionDigits]byte
	v := uint64(version)
	for i := versionDigits - 1; i >= 0; i-- {
		digits[i] = byte('0' + v%10)
		v /= 10
	}
	return append(dst, digits[:]...)
}
