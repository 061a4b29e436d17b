package views

import (
	"fmt"
	"strings"

	"github.com/lanternist/lanternist/row"
)

// ID is the document id for an encoded root key: the text of the key column, or, when there are several, their
// texts joined with ":", in which ":" and "%" are percent-escaped.
func (v *View) ID(rootKey []byte) string {
	if len(v.root.schema.Key) == 1 && len(rootKey) > 0 {
		return string(rootKey[:len(rootKey)-1])
	}
	parts := row.SplitKey(rootKey)
	texts := make([]string, len(parts))
	for i, p := range parts {
		texts[i] = string(p)
	}
	return joinParts(texts)
}

// Key is the encoded root key of a document id; the inverse of ID.
func (v *View) Key(id string) ([]byte, error) {
	want := len(v.root.schema.Key)
	parts := []string{id}
	if want > 1 {
		parts = strings.Split(id, ":")
		if len(parts) != want {
			return nil, fmt.Errorf("id %q has %d parts, view %s has a key of %d columns", id, len(parts), v.name, want)
		}
		for i, p := range parts {
			text, err := unescapePart(p)
			if err != nil {
				return nil, fmt.Errorf("id %q: %w", id, err)
			}
			parts[i] = text
		}
	}
	key := make([]byte, 0, len(id)+want)
	for _, p := range parts {
		if strings.IndexByte(p, 0) >= 0 {
			return nil, fmt.Errorf("id %q has a zero byte", id)
		}
		key = append(append(key, p...), 0)
	}
	return key, nil
}

var (
	partEscaper   = strings.NewReplacer("%", "%25", ":", "%3A")
	partUnescaper = strings.NewReplacer("%25", "%", "%3A", ":", "%3a", ":")
)

// joinParts joins several values into one text from which they can be told apart again.
// One value stays as it is.
func joinParts(parts []string) string {
	if len(parts) == 1 {
		return parts[0]
	}
	escaped := make([]string, len(parts))
	for i, p := range parts {
		escaped[i] = partEscaper.Replace(p)
	}
	return strings.Join(escaped, ":")
}

// unescapePart undoes the escaping of one part.
func unescapePart(p string) (string, error) {
	for i := 0; i < len(p); i++ {
		if p[i] != '%' {
			continue
		}
		if rest := p[i+1:]; !strings.HasPrefix(rest, "25") && !strings.HasPrefix(rest, "3A") && !strings.HasPrefix(rest, "3a") {
			return "", fmt.Errorf("%q has an escape other than %%25 and %%3A", p)
		}
		i += 2
	}
	return partUnescaper.Replace(p), nil
}
