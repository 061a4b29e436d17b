package row

// maxDimensions is how deep an array may nest. Postgres allows 6.
const maxDimensions = 8

// appendArray appends an array in text form ("{1,NULL,\"a b\"}", "{{1,2},{3,4}}", "[0:1]={1,2}") as a JSON array.
// It reports false, and gives dst back as it was, when text is not an array.
func appendArray(dst []byte, t *Type, text []byte) ([]byte, bool) {
	p := arrayParser{text: text, elem: t.Elem, delimiter: ','}
	if p.elem == nil {
		return dst, false
	}
	switch {
	case p.elem.Delim != 0:
		p.delimiter = p.elem.Delim
	case p.elem.Name == "box": // in definitions stored before Delim was
		p.delimiter = ';'
	}
	p.skipBounds()
	out, ok := p.appendLevel(dst, 1)
	if !ok || p.at != len(text) {
		return dst, false
	}
	return out, true
}

// arrayParser walks the text form of an array once.
type arrayParser struct {
	text      []byte
	at        int
	elem      *Type
	delimiter byte
	scratch   []byte // an element without its quotes and backslashes
}

// peek is the next byte, or 0 at the end.
func (p *arrayParser) peek() byte {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

// skipBounds steps over "[0:1][3:4]=", which stands before an array whose lower bounds are not 1.
func (p *arrayParser) skipBounds() {
	if p.peek() != '[' {
		return
	}
	for i := p.at; i < len(p.text); i++ {
		if p.text[i] == '=' {
			p.at = i + 1
			return
		}
	}
}

// appendLevel appends one brace-enclosed level.
func (p *arrayParser) appendLevel(dst []byte, depth int) ([]byte, bool) {
	if p.peek() != '{' || depth > maxDimensions {
		return dst, false
	}
	p.at++
	dst = append(dst, '[')
	if p.peek() == '}' {
		p.at++
		return append(dst, ']'), true
	}
	for {
		var ok bool
		if p.peek() == '{' {
			dst, ok = p.appendLevel(dst, depth+1)
		} else {
			dst, ok = p.appendElement(dst)
		}
		if !ok {
			return dst, false
		}
		switch p.peek() {
		case p.delimiter:
			p.at++
			dst = append(dst, ',')
		case '}':
			p.at++
			return append(dst, ']'), true
		default:
			return dst, false
		}
	}
}

// appendElement appends one element: quoted, the word NULL, or bare.
func (p *arrayParser) appendElement(dst []byte) ([]byte, bool) {
	quoted := p.peek() == '"'
	element, ok := p.element()
	if !ok {
		return dst, false
	}
	if !quoted && isNullWord(element) {
		return append(dst, "null"...), true
	}
	return AppendJSON(dst, p.elem, element), true
}

// element is the text of the next element with quotes and backslashes undone. Valid until the next call.
func (p *arrayParser) element() ([]byte, bool) {
	p.scratch = p.scratch[:0]
	if p.peek() != '"' {
		from := p.at
		for p.at < len(p.text) {
			switch c := p.text[p.at]; c {
			case p.delimiter, '}':
				return p.text[from:p.at], p.at > from
			case '{', '"', '\\':
				return nil, false
			}
			p.at++
		}
		return nil, false
	}
	for p.at++; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; c {
		case '"':
			p.at++
			return p.scratch, true
		case '\\':
			p.at++
			if p.at == len(p.text) {
				return nil, false
			}
			p.scratch = append(p.scratch, p.text[p.at])
		default:
			p.scratch = append(p.scratch, c)
		}
	}
	return nil, false
}

// isNullWord says whether an unquoted element is NULL, in any case of letters.
func isNullWord(b []byte) bool {
	return len(b) == 4 && b[0]|0x20 == 'n' && b[1]|0x20 == 'u' && b[2]|0x20 == 'l' && b[3]|0x20 == 'l'
}
