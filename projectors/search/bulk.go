package search

import (
	"bytes"
	"strconv"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/sabotage"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/views"
)

// chunk is one bulk request: the documents it is about and its body. Its memory is used again.
type chunk struct {
	index []int  // into the documents of the Write
	body  []byte // NDJSON
	reply bytes.Buffer
}

func (c *chunk) reset() {
	c.index = c.index[:0]
	c.body = c.body[:0]
	c.reply.Reset()
}

// actionBytes is about what an action line adds to a document.
const actionBytes = 80

func sizeOf(d *views.Document) int { return len(d.Body) + len(d.ID) + actionBytes }

// appendTail appends what ends an action line: the version, and the rule that an equal version is written again, so that a
// repeated write is a success.
func appendTail(dst []byte, version event.Offset) []byte {
	if sabotage.Off(sabotage.Versions) {
		return append(dst, "}}\n"...)
	}
	dst = append(dst, `,"version":`...)
	dst = strconv.AppendUint(dst, uint64(version), 10)
	return append(dst, `,"version_type":"external_gte"}}`+"\n"...)
}

// appendDocument appends the line or lines of one document.
func appendDocument(dst []byte, d *views.Document, tail []byte) []byte {
	if d.Body == nil {
		dst = append(dst, `{"delete":{"_id":`...)
		dst = appendID(dst, d.ID)
		return append(dst, tail...)
	}
	dst = append(dst, `{"index":{"_id":`...)
	dst = appendID(dst, d.ID)
	dst = append(dst, tail...)
	dst = append(dst, d.Body...)
	return append(dst, '\n')
}

// appendID appends an id as a JSON string.
func appendID(dst []byte, id string) []byte {
	for i := range len(id) {
		if c := id[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return row.AppendJSONString(dst, []byte(id))
		}
	}
	return append(append(append(dst, '"'), id...), '"')
}
