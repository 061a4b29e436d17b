package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/lanternist/lanternist/verify"
)

type verifyCmd struct {
	configFlag
	View    string `arg:"" help:"The view."`
	Sample  int    `xor:"how" help:"Look at this many rows of the root table, chosen at random." placeholder:"N"`
	Full    bool   `xor:"how" help:"Look at all rows, and for documents that should not be there (the default)."`
	Seed    uint64 `help:"Choose the sample that this number stands for." placeholder:"N"`
	Repair  bool   `help:"Write or delete the documents that are not as they should be."`
	Against string `enum:"mirror,source" default:"mirror" help:"Compare with what the mirror yields, or with a copy of the tables taken from the source: mirror, source."`
	Rate    int    `help:"Look at this many documents per second, at most (default 5,000)." placeholder:"N"`
	JSON    bool   `help:"Print the outcome as JSON."`
}

// verifyAnswer is what the API says of a comparison.
type verifyAnswer struct {
	View     string          `json:"view"`
	State    string          `json:"state"`
	Started  time.Time       `json:"started"`
	Finished time.Time       `json:"finished"`
	Progress verify.Progress `json:"progress"`
	Result   *verify.Result  `json:"result,omitempty"`
	Error    string          `json:"error,omitempty"`
}

// Run has the running daemon compare. Only it knows how far its projectors are, and may write what they write.
func (c *verifyCmd) Run(a *app) error {
	if c.Sample < 0 || c.Rate < 0 {
		return badInput(errors.New("--sample and --rate cannot be negative"))
	}
	_, client, err := c.connect()
	if err != nil {
		return err
	}
	bar := a.newProgress("verify "+c.View, "documents")
	answer, err := c.ask(a.ctx, client, bar)
	bar.finish()
	if errors.Is(err, errNoDaemon) {
		return fmt.Errorf("%w; documents are compared by the daemon that writes them: lanternist run", err)
	}
	if err != nil {
		return err
	}
	return c.print(a, answer)
}

// ask starts a comparison and follows it. When this command ends early, the comparison does, too.
func (c *verifyCmd) ask(ctx context.Context, client *client, bar *progress) (*verifyAnswer, error) {
	path := "/v1/views/" + url.PathEscape(c.View) + "/verify"
	query := url.Values{"against": {c.Against}, "repair": {strconv.FormatBool(c.Repair)}}
	for name, n := range map[string]uint64{"sample": uint64(c.Sample), "rate": uint64(c.Rate), "seed": c.Seed} {
		if n > 0 {
			query.Set(name, strconv.FormatUint(n, 10))
		}
	}
	var answer verifyAnswer
	if err := client.do(ctx, http.MethodPost, path, query, &answer); err != nil {
		return nil, err
	}
	for {
		bar.set(answer.Progress.Done, answer.Progress.Total)
		if answer.State != "running" {
			return &answer, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), c.cancel(client, path))
		case <-time.After(pollEvery):
		}
		answer = verifyAnswer{}
		if err := client.get(ctx, path, nil, &answer); err != nil {
			return nil, err
		}
	}
}

// cancel ends the comparison that this command has started.
func (c *verifyCmd) cancel(client *client, path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	return client.do(ctx, http.MethodDelete, path, nil, nil)
}

func (c *verifyCmd) print(a *app, answer *verifyAnswer) error {
	if c.JSON {
		if err := printJSON(a.stdout, answer); err != nil {
			return err
		}
	}
	if answer.Error != "" || answer.Result == nil {
		return errors.New(answer.Error)
	}
	if !c.JSON {
		c.printResult(a.stdout, answer)
	}
	if !answer.Result.Equal() {
		return &exitError{code: exitDifferent}
	}
	return nil
}

func (c *verifyCmd) printResult(w io.Writer, answer *verifyAnswer) {
	took := short(answer.Finished.Sub(answer.Started))
	for _, s := range answer.Result.Sinks {
		fmt.Fprintf(w, "%s: %s documents compared with the %s in %s: ", s.Sink, thousands(s.Compared), answer.Result.Against, took)
		if s.Missing+s.Extra+s.Different == 0 {
			fmt.Fprint(w, "all are right")
		} else {
			fmt.Fprintf(w, "%s missing, %s extra, %s different", thousands(s.Missing), thousands(s.Extra), thousands(s.Different))
			if c.Repair {
				fmt.Fprintf(w, "; %s repaired", thousands(s.Repaired))
			}
		}
		for _, more := range []struct {
			n    int64
			what string
		}{
			{s.Unsettled, "changed each time they were looked at"}, {s.Expired, "expired"},
			{s.Uncomposable, "cannot be composed: lanternist deadletters list"},
		} {
			if more.n > 0 {
				fmt.Fprintf(w, "; %s %s", thousands(more.n), more.what)
			}
		}
		fmt.Fprintln(w)
		for _, d := range s.Differences {
			printDifference(w, d)
		}
		if hidden := s.Missing + s.Extra + s.Different - int64(len(s.Differences)); hidden > 0 {
			fmt.Fprintf(w, "  and %s more\n", thousands(hidden))
		}
	}
	if answer.Result.Seed != 0 {
		fmt.Fprintf(w, "this sample again: --sample %d --seed %d\n", c.Sample, answer.Result.Seed)
	}
}

func printDifference(w io.Writer, d verify.Difference) {
	words := []string{string(d.Kind)}
	if d.Note != "" {
		words = append(words, d.Note)
	}
	if d.Repaired {
		words = append(words, "repaired")
	}
	fmt.Fprintf(w, "  %s: %s\n", d.ID, strings.Join(words, ", "))
	for _, f := range d.Fields {
		fmt.Fprintf(w, "    %s: got %s, want %s\n", pathOf(f.Path), valueOf(f.Got), valueOf(f.Want))
	}
}

func pathOf(path string) string {
	if path == "" {
		return "(document)"
	}
	return path
}

// valueMax is how much of a value is printed, in bytes.
const valueMax = 200

func valueOf(text []byte) string {
	switch {
	case text == nil:
		return "nothing"
	case len(text) > valueMax:
		return strings.ToValidUTF8(string(text[:valueMax]), "") + "…"
	}
	return string(text)
}
