package row

// appendHStore appends an hstore in text form (`"a"=>"1", "b"=>NULL`) as a JSON object of strings and nulls.
// It reports false, and gives dst back as it was, when text is not an hstore.
func appendHStore(dst, text []byte) ([]byte, bool) {
	p := hstoreParser{text: text}
	out := append(dst, '{')
	for first := true; p.at < len(text); first = false {
		if !first {
			if !p.take(", ") {
				return dst, false
			}
			out = append(out, ',')
		}
		name, ok := p.quoted()
		if !ok {
			return dst, false
		}
		out = append(AppendJSONString(out, name), ':')
		if !p.take("=>") {
			return dst, false
		}
		if p.take("NULL") {
			out = append(out, "null"...)
			continue
		}
		value, ok := p.quoted()
		if !ok {
			return dst, false
		}
		out = AppendJSONString(out, value)
	}
	return append(out, '}'), true
}

// hstoreParser walks the text that hstore_out writes once.
type hstoreParser struct {
	text    []byte
	at      int
	scratch []byte // a string without its quotes and backslashes
}

// take steps over a word if it comes next.
func (p *hstoreParser) take(word string) bool {
	if len(p.text)-p.at < len(word) || string(p.text[p.at:p.at+len(word)]) != word {
		return false
	}
	p.at += len(word)
	return true
}

// quoted is the next string. Valid until the next call.
func (p *hstoreParser) quoted() ([]byte, bool) {
	if !p.take(`"`) {
		return nil, false
	}
	p.scratch = p.scratch[:0]
	for ; p.at < len(p.text); p.at++ {
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
