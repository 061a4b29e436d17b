package httpapi

// LoadStatus is how far the first load of tables is.
type LoadStatus struct {
	Loading bool        `json:"loading"`
	Rows    int64       `json:"rows"`
	Total   int64       `json:"total" doc:"An estimate."`
	Percent float64     `json:"percent"`
	Rate    float64     `json:"rate" doc:"Rows per second, lately."`
	Left    *float64    `json:"left_seconds,omitempty" doc:"How long the rest takes at this rate; none when that is not known."`
	Failing []LoadError `json:"failing,omitempty" doc:"Tables that cannot be read now, and are tried again. The others go on."`
}

// LoadError says why a table cannot be read.
type LoadError struct {
	Table    string `json:"table"`
	Error    string `json:"error"`
	Attempts int    `json:"attempts"`
}
