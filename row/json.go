package row

import (
	"bytes"
	"unicode/utf8"
)

// AppendJSON appends the JSON form of a value of type t, given in Postgres text form, to dst. The form means
// what to_jsonb makes of the value, with these choices:
//
//   - integers and numerics keep their exact digits ("1.10" stays 1.10), floats keep Postgres' shortest text; NaN and
//     the infinities are strings, and so is a number of more than 1,000 characters, which readers of JSON refuse;
//     an oid is a number (to_jsonb makes it a string), and so is money (the digits of a cast to numeric);
//   - dates and timestamps are ISO 8601 strings with a T ("2026-01-02T03:04:05.123", with "+00:00" behind it when
//     there is a time zone); infinity and years BC keep their Postgres words;
//   - json and jsonb are copied, with line breaks made spaces, so that a document is always one line;
//   - arrays are JSON arrays, nested as they are; their lower bounds are dropped;
//   - a point is an array of its two coordinates, a vector one of its elements, an hstore an object of strings and nulls;
//   - a geometry is GeoJSON, with "crs" when its SRID is neither 4326 nor unknown; M is dropped. What GeoJSON cannot say
//     (curves, surfaces, coordinates that are no numbers) stays EWKB;
//   - everything else, composites and ranges included, is its text as a string.
//
// The result is always valid JSON, as long as the text of a json value is: it is not parsed here. A text that
// does not have the form of its type becomes a string.
func AppendJSON(dst []byte, t *Type, text []byte) []byte {
	switch t.Class {
	case Int, Float, Numeric:
		if len(text) <= maxNumberLen && isJSONNumber(text) {
			return append(dst, text...)
		}
	case Money:
		if out, ok := appendMoney(dst, text); ok {
			return out
		}
	case Bool:
		if len(text) == 1 && text[0] == 't' {
			return append(dst, "true"...)
		}
		if len(text) == 1 && text[0] == 'f' {
			return append(dst, "false"...)
		}
	case Timestamp, TimestampTZ:
		return appendTimestamp(dst, text, t.Class == TimestampTZ)
	case JSON:
		return appendVerbatim(dst, text)
	case Array:
		if out, ok := appendArray(dst, t, text); ok {
			return out
		}
	case Point:
		if out, ok := appendPoint(dst, text); ok {
			return out
		}
	case Vector:
		if out, ok := appendVector(dst, text); ok {
			return out
		}
	case HStore:
		if out, ok := appendHStore(dst, text); ok {
			return out
		}
	case Geometry:
		if out, ok := appendGeometry(dst, text); ok {
			return out
		}
	}
	return AppendJSONString(dst, text)
}

// maxNumberLen is how long a number may be in JSON. Jackson, which Elasticsearch reads with, refuses a document with a longer one.
// Postgres' numeric goes up to 147,455 digits.
const maxNumberLen = 1000

// isJSONNumber says whether text is a number in the grammar of JSON.
func isJSONNumber(text []byte) bool {
	i := 0
	if i < len(text) && text[i] == '-' {
		i++
	}
	whole := digits(text[i:])
	if whole == 0 || (whole > 1 && text[i] == '0') {
		return false
	}
	i += whole
	if i < len(text) && text[i] == '.' {
		n := digits(text[i+1:])
		if n == 0 {
			return false
		}
		i += 1 + n
	}
	if i < len(text) && (text[i] == 'e' || text[i] == 'E') {
		i++
		if i < len(text) && (text[i] == '+' || text[i] == '-') {
			i++
		}
		n := digits(text[i:])
		if n == 0 {
			return false
		}
		i += n
	}
	return i == len(text)
}

// digits is how many decimal digits text begins with.
func digits(text []byte) int {
	for i, c := range text {
		if c < '0' || c > '9' {
			return i
		}
	}
	return len(text)
}

// appendVerbatim copies a json value. Outside of strings a line break is white space, and inside of strings
// JSON does not allow one, so each may become a space. Bytes that are not UTF-8 become U+FFFD.
func appendVerbatim(dst, text []byte) []byte {
	from := len(dst)
	if utf8.Valid(text) {
		dst = append(dst, text...)
	} else {
		dst = append(dst, bytes.ToValidUTF8(text, []byte("\ufffd"))...)
	}
	if bytes.IndexByte(text, '\n') < 0 && bytes.IndexByte(text, '\r') < 0 {
		return dst
	}
	for i := from; i < len(dst); i++ {
		if dst[i] == '\n' || dst[i] == '\r' {
			dst[i] = ' '
		}
	}
	return dst
}

// plain marks the bytes that a JSON string holds as they are: ASCII without controls, quote and backslash.
var plain = func() (set [256]bool) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		set[c] = c != '"' && c != '\\'
	}
	return set
}()

const hexDigits = "0123456789abcdef"

// AppendJSONString appends text as a JSON string. Bytes that are not UTF-8 become U+FFFD.
func AppendJSONString(dst, text []byte) []byte {
	dst = append(dst, '"')
	done := 0
	for i := 0; i < len(text); {
		c := text[i]
		if plain[c] {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(text[i:])
			if r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
			dst = append(append(dst, text[done:i]...), "\ufffd"...)
		} else {
			dst = appendEscape(append(dst, text[done:i]...), c)
		}
		i++
		done = i
	}
	dst = append(dst, text[done:]...)
	return append(dst, '"')
}

// appendEscape appends the escape sequence of one ASCII byte.
func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}
