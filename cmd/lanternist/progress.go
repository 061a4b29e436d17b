package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/lanternist/lanternist/internal/meter"
)

// How often progress is told where it is not drawn.
const (
	jsonEvery = time.Second      // besides the first and the last time
	textEvery = 10 * time.Second // nothing is said of what is over before
)

// progress shows how far work is. The zero value shows nothing. It is safe for concurrent use.
type progress struct {
	mu    sync.Mutex
	what  string // "rebuild order_summary", or more exactly what is being done now
	asked string // as what began
	unit  string
	show  func(line progressLine, last bool)
	every time.Duration
	eager bool // tell the first and the last time, however short the work is

	meter meter.Meter
	begun bool
	told  time.Time // last; when it began, when nothing was
	said  bool      // something was told
}

// progressLine is how far work is at one moment, as it is printed with --json.
type progressLine struct {
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"`
	Subject string    `json:"subject"`
	Step    string    `json:"step,omitempty"`
	meter.Reading
	Unit string `json:"unit"`
}

// newProgress shows what is done, counted in units: what is the kind of work and what it is done to. It is a bar on a terminal,
// and a line now and then elsewhere.
func newProgress(w io.Writer, what, unit string) *progress {
	p := &progress{what: what, asked: what, unit: unit}
	if isTerminal(w) {
		p.show = drawBar(w, what, unit)
		return p
	}
	p.every = textEvery
	p.show = func(line progressLine, _ bool) { fmt.Fprintln(w, line.text()) }
	return p
}

// newProgress shows progress on stderr, in JSON when the command was asked for JSON.
func (a *app) newProgress(what, unit string) *progress {
	if !a.json {
		return newProgress(a.stderr, what, unit)
	}
	encoder := json.NewEncoder(a.stderr)
	return &progress{what: what, asked: what, unit: unit, every: jsonEvery, eager: true, show: func(line progressLine, _ bool) {
		_ = encoder.Encode(line) // that it cannot be shown is no reason to stop the work
	}}
}

// logProgress tells progress in the log, unless a person looks at it: then it is a bar.
func (a *app) logProgress(log *slog.Logger, what, unit string) *progress {
	if isTerminal(a.stderr) {
		return newProgress(a.stderr, what, unit)
	}
	return &progress{what: what, asked: what, unit: unit, every: textEvery, show: func(line progressLine, last bool) {
		attrs := []slog.Attr{
			slog.Int64("done", line.Done), slog.Int64("total", line.Total), slog.String("unit", line.Unit),
			slog.Float64("percent", line.Percent), slog.Float64("rate", line.Rate),
		}
		if line.Left != nil && !last {
			attrs = append(attrs, slog.Duration("left", line.left()))
		}
		log.LogAttrs(context.Background(), slog.LevelInfo, line.Kind+" progressed", attrs...)
	}}
}

// drawBar is a bar on a terminal.
func drawBar(w io.Writer, what, unit string) func(progressLine, bool) {
	bar := progressbar.NewOptions64(-1,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetItsString(unit),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
	described := what
	return func(line progressLine, last bool) {
		if last {
			_ = bar.Finish() // a bar that cannot be drawn is no reason to stop the work
			return
		}
		if text := line.what(); text != described {
			bar.Describe(text)
			described = text
		}
		if line.Total > 0 && bar.GetMax64() != line.Total {
			bar.ChangeMax64(line.Total)
		}
		_ = bar.Set64(min(line.Done, max(line.Total, line.Done))) // as above
	}
}

// set says how much is done. total may change while the work goes on; below 1 it is not known.
func (p *progress) set(done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.show == nil {
		return
	}
	now := time.Now()
	p.meter.Observe(done, total)
	if !p.begun {
		p.begun = true
		if !p.eager {
			p.told = now
		}
	}
	if p.every > 0 && now.Sub(p.told) < p.every {
		return
	}
	p.told, p.said = now, true
	p.show(p.line(now), false)
}

// describe says more exactly what is being done.
func (p *progress) describe(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.what = what
}

// finish says that the work is over, or another begins.
func (p *progress) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.show == nil || !p.begun {
		return
	}
	// A line that says the end of what nobody has read of before is noise.
	if now := time.Now(); p.eager || p.every == 0 || p.said {
		p.show(p.line(now), true)
	}
	p.meter, p.begun, p.said, p.told = meter.Meter{}, false, false, time.Time{}
}

func (p *progress) line(now time.Time) progressLine {
	line := progressLine{Time: now.UTC(), Reading: p.meter.Read(), Unit: p.unit}
	line.Kind, line.Subject, _ = strings.Cut(p.asked, " ")
	line.Step = strings.TrimSpace(strings.TrimPrefix(p.what, p.asked))
	line.Percent, line.Rate = round(line.Percent, 100), round(line.Rate, 10)
	if line.Left != nil {
		seconds := round(*line.Left, 10)
		line.Left = &seconds
	}
	return line
}

func round(v, parts float64) float64 { return math.Round(v*parts) / parts }

func (l *progressLine) what() string {
	return strings.Join(strings.Fields(l.Kind+" "+l.Subject+" "+l.Step), " ")
}

func (l *progressLine) left() time.Duration {
	return time.Duration(*l.Left * float64(time.Second)).Round(time.Second)
}

// text is the line for people.
func (l *progressLine) text() string {
	text := l.what() + ": " + thousands(l.Done)
	if l.Total > 0 {
		text += fmt.Sprintf(" of %s %s (%.1f%%)", thousands(l.Total), l.Unit, l.Percent)
	} else {
		text += " " + l.Unit
	}
	text += fmt.Sprintf(", %s/s", thousands(int64(math.Round(l.Rate))))
	if l.Left != nil && *l.Left > 0 {
		text += fmt.Sprintf(", %s left", l.left())
	}
	return text
}
