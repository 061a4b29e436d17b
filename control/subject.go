package control

import (
	"fmt"
	"strconv"
	"strings"
)

const hexDigits = "0123456789ABCDEF"

// subject is a key as NATS allows it: path elements become tokens between dots, and every byte that is not a
// letter, a digit, '-' or '_' becomes '=' and two hexadecimal digits. An empty element is a single '='.
func subject(key string) string {
	var b strings.Builder
	b.Grow(len(key) + 8)
	start := true
	for i := range len(key) {
		c := key[i]
		switch {
		case c == '/':
			if start {
				b.WriteByte('=')
			}
			b.WriteByte('.')
			start = true
			continue
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		default:
			b.WriteByte('=')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&0xf])
		}
		start = false
	}
	if start {
		b.WriteByte('=')
	}
	return b.String()
}

// keyOf is the key that became a subject.
func keyOf(subject string) (string, error) {
	var b strings.Builder
	for n, token := range strings.Split(subject, ".") {
		if n > 0 {
			b.WriteByte('/')
		}
		if token == "=" {
			continue
		}
		for i := 0; i < len(token); i++ {
			if token[i] != '=' {
				b.WriteByte(token[i])
				continue
			}
			if i+2 >= len(token) {
				return "", fmt.Errorf("%q is not a key of the control store", subject)
			}
			c, err := strconv.ParseUint(token[i+1:i+3], 16, 8)
			if err != nil {
				return "", fmt.Errorf("%q is not a key of the control store: %w", subject, err)
			}
			b.WriteByte(byte(c))
			i += 2
		}
	}
	return b.String(), nil
}
