package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

func (r *result) printJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// print prints the lines as a table, with what it was taken on.
func (r *result) print(w io.Writer) error {
	rows := [][]string{{"", "changes/s", "of receive", "of raw writes", "written", "CPU s/100k", "peak MiB", ""}}
	if r.Runs > 1 {
		rows[0] = append(rows[0], "least – most")
	}
	for _, l := range r.Lines {
		row := []string{l.Name, thousands(l.Rate), number(l.OfReceive, 2), l.ratios(), "", number(l.CPU, 2), "", l.About}
		if l.Written > 0 {
			row[4] = thousands(float64(l.Written))
		}
		if l.PeakBytes > 0 {
			row[6] = thousands(float64(l.PeakBytes) / (1 << 20))
		}
		if r.Runs > 1 {
			row = append(row, thousands(l.RateMin)+" – "+thousands(l.RateMax))
		}
		rows = append(rows, row)
	}
	m := r.Machine
	_, err := fmt.Fprintf(w, "%s\n%s changes in transactions of ten, on %s rows; runs: %d\n\n%s\n%s\n\n%s",
		m.Date.Format("2006-01-02 15:04 MST"), thousands(float64(r.Changes)), thousands(float64(r.Rows)), r.Runs,
		m.hardware(), m.software(), align(rows))
	return err
}

// ratios are the line's ratios to raw writes.
func (l *line) ratios() string {
	var parts []string
	for _, r := range l.OfRaw {
		parts = append(parts, number(r.Value, 2)+" "+r.Limit)
	}
	return strings.Join(parts, ", ")
}

// align lays rows out in columns: the first and the last to the left, the others to the right.
func align(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		var text strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 || i >= len(row)-2 && rows[0][i] == "" || i == 3 {
				text.WriteString(cell + pad + "  ")
			} else {
				text.WriteString(pad + cell + "  ")
			}
		}
		b.WriteString(strings.TrimRight(text.String(), " ") + "\n")
	}
	return b.String()
}

// number is a number with decimals, or nothing when it is not known.
func number(v float64, decimals int) string {
	if v == 0 || math.IsNaN(v) {
		return ""
	}
	return strconv.FormatFloat(v, 'f', decimals, 64)
}

// thousands is a whole number with commas.
func thousands(v float64) string {
	digits := strconv.FormatInt(int64(math.Round(v)), 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}
