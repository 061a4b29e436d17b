package row

import "bytes"

// appendTimestamp appends a timestamp ("2026-01-02 03:04:05.123", "…+00" with a zone, perhaps " BC" behind it) as
// Postgres writes it in JSON: a T between date and time, and a zone of at least hours and minutes.
// Infinities, and whatever else does not look like a timestamp, are copied as they are.
func appendTimestamp(dst, text []byte, zoned bool) []byte {
	space := bytes.IndexByte(text, ' ')
	if space < 0 || !isASCIITime(text) {
		return AppendJSONString(dst, text)
	}
	clock, era := text[space+1:], []byte(nil)
	if i := bytes.IndexByte(clock, ' '); i >= 0 {
		clock, era = clock[:i], clock[i:]
	}
	dst = append(dst, '"')
	dst = append(dst, text[:space]...)
	dst = append(dst, 'T')
	dst = append(dst, clock...)
	if sign := bytes.LastIndexAny(clock, "+-"); zoned && sign >= 0 && len(clock)-sign == 3 {
		dst = append(dst, ":00"...)
	}
	dst = append(dst, era...)
	return append(dst, '"')
}

// isASCIITime says whether text has only the bytes that a date or timestamp has, none of which JSON escapes.
func isASCIITime(text []byte) bool {
	for _, c := range text {
		switch {
		case c >= '0' && c <= '9':
		case c == '-' || c == '+' || c == ':' || c == '.' || c == ' ' || c == 'B' || c == 'C':
		default:
			return false
		}
	}
	return true
}
