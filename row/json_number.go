package row

import "bytes"

// appendMoney appends money ("-$1,234.56") as a number.
func appendMoney(dst, text []byte) ([]byte, bool) {
	from := len(dst)
	dst = AppendMoneyDigits(dst, text)
	if !isJSONNumber(dst[from:]) {
		return dst[:from], false
	}
	return dst, true
}

// AppendMoneyDigits appends the decimal number that money says: without currency sign and separators.
func AppendMoneyDigits(dst, text []byte) []byte {
	for _, c := range text {
		if c != '$' && c != ',' {
			dst = append(dst, c)
		}
	}
	return dst
}

// appendPoint appends a point ("(1,2)") as an array of two numbers. It reports false when one is not a number of JSON.
func appendPoint(dst, text []byte) ([]byte, bool) {
	if len(text) < 2 || text[0] != '(' || text[len(text)-1] != ')' {
		return dst, false
	}
	x, y, ok := bytes.Cut(text[1:len(text)-1], []byte{','})
	if !ok || !isJSONNumber(x) || !isJSONNumber(y) {
		return dst, false
	}
	dst = append(append(dst, '['), x...)
	dst = append(append(dst, ','), y...)
	return append(dst, ']'), true
}

// appendVector appends a vector ("[1,2.5,-3e-05]"), which is written as JSON would be.
func appendVector(dst, text []byte) ([]byte, bool) {
	if len(text) < 2 || text[0] != '[' || text[len(text)-1] != ']' {
		return dst, false
	}
	for rest, more := text[1:len(text)-1], true; more; {
		var element []byte
		element, rest, more = bytes.Cut(rest, []byte{','})
		if !isJSONNumber(element) {
			return dst, false
		}
	}
	return append(dst, text...), true
}
