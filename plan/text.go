package plan

import (
	"fmt"
	"strconv"
	"strings"
)

// Text is the plan as people read it: + is added, ~ changed, - removed, ! waits for a restart.
func (p *Plan) Text() string {
	var b strings.Builder
	if p.Empty() {
		b.WriteString("Nothing is to be done: what is deployed is what is configured.\n")
	}
	section(&b, "Tables", len(p.Tables), func(row func(cells ...string)) {
		for _, t := range p.Tables {
			row(t.Action.mark(), t.Name, t.text())
		}
	})
	section(&b, "Indexes of the mirror", len(p.Indexes), func(row func(cells ...string)) {
		for _, ix := range p.Indexes {
			what := "built from " + about(ix.Rows, "rows")
			if ix.Action == Remove {
				what = "dropped"
			}
			row(ix.Action.mark(), ix.Table+" ("+strings.Join(ix.Columns, ", ")+")", what)
		}
	})
	section(&b, "Views", len(p.Views), func(row func(cells ...string)) {
		for i := range p.Views {
			p.Views[i].rows(row)
		}
	})
	section(&b, "Settings that need a restart", len(p.Restart), func(row func(cells ...string)) {
		for _, s := range p.Restart {
			row("!", s.Name, fmt.Sprintf("%s, in force is %s", shown(s.Configured), shown(s.Deployed)))
		}
	})
	return b.String()
}

// section prints rows of cells in columns. A row of one cell belongs to the one before it.
func section(b *strings.Builder, title string, n int, fill func(row func(cells ...string))) {
	if n == 0 {
		return
	}
	if b.Len() > 0 {
		b.WriteByte('\n')
	}
	fmt.Fprintf(b, "%s\n", title)
	var rows [][]string
	var widths [2]int // of the columns before the last
	fill(func(cells ...string) {
		rows = append(rows, cells)
		if len(cells) > 1 {
			for i, cell := range cells[1 : len(cells)-1] {
				widths[i] = max(widths[i], len(cell))
			}
		}
	})
	for _, cells := range rows {
		fmt.Fprintf(b, "  %s", cells[0])
		for i, cell := range cells[1:] {
			if i == len(cells)-2 {
				fmt.Fprintf(b, " %s", cell)
				continue
			}
			fmt.Fprintf(b, " %-*s ", widths[i], cell)
		}
		b.WriteByte('\n')
	}
}

func (a Action) mark() string {
	switch a {
	case Add:
		return "+"
	case Remove:
		return "-"
	}
	return "~"
}

func (t *TableChange) text() string {
	if t.Action == Add {
		text := "captured; " + about(t.Rows, "rows") + " are loaded"
		if len(t.Views) > 0 {
			text += ", for " + strings.Join(t.Views, ", ")
		}
		return text
	}
	text := "no longer captured; its rows are deleted from the mirror"
	if len(t.Views) > 0 {
		text += ", once no document of " + strings.Join(t.Views, ", ") + " is made of it"
	}
	return text
}

// rows are a line for each thing that is done to the view, and one for each difference.
func (c *ViewChange) rows(row func(cells ...string)) {
	for _, action := range []Action{Add, Rebuild, Remove} {
		var sinks []string
		var reason string
		var deleted []string
		for _, s := range c.Sinks {
			if s.Action != action {
				continue
			}
			sinks, reason = append(sinks, s.Sink), s.Reason
			if len(s.Generations) > 0 {
				deleted = append(deleted, s.Sink+" "+numbers(s.Generations))
			}
		}
		if len(sinks) == 0 {
			continue
		}
		what := reason
		switch action {
		case Add:
			what += ": built from " + about(c.Rows, "rows")
		case Rebuild:
			what += ": rebuilt from " + about(c.Rows, "rows") + " while readers see what they see now"
		case Remove:
			what += ": not served any more"
			if len(deleted) > 0 {
				what += "; deleted: " + strings.Join(deleted, "; ")
			} else {
				what += "; its documents stay in the sink"
			}
		}
		row(action.mark(), c.View, strings.Join(sinks, ", "), what)
	}
	for _, d := range c.Changes {
		row("    " + d.text())
	}
}

func (d *Edit) text() string {
	switch {
	case d.Was == "":
		return "+ " + d.Path + ": " + d.Now
	case d.Now == "":
		return "- " + d.Path + ": " + d.Was
	}
	return "~ " + d.Path + ": " + d.Now + " (was: " + d.Was + ")"
}

func shown(value string) string {
	if value == "" {
		return "nothing"
	}
	return value
}

// about is a number that is an estimate.
func about(n int64, things string) string {
	if n < 0 {
		return "an unknown number of " + things
	}
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return "about " + text + " " + things
}

// numbers are generations: "g1, g2".
func numbers(generations []int) string {
	texts := make([]string, len(generations))
	for i, n := range generations {
		texts[i] = "g" + strconv.Itoa(n)
	}
	return strings.Join(texts, ", ")
}
