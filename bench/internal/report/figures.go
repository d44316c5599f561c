// Package report gathers what variants of one path measured, round by round,
// and compares them.
//
// A machine that other people use drifts by a factor of two between minutes, so
// no figure here is absolute: variants take turns inside a round, and what
// counts is the ratio of two of them within each round. The median of these
// paired ratios is compared with the goal.
package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
)

// Figures are what one variant measured in one round, by the name and unit of
// the figure, such as "req/s" or "p50 µs".
type Figures map[string]float64

// Spread is the median of some samples with their range.
type Spread struct{ Median, Min, Max float64 }

// SpreadOf returns the spread of samples; ok is false when there are none. Of an
// even number it takes the mean of the two in the middle.
func SpreadOf(samples []float64) (spread Spread, ok bool) {
	n := len(samples)
	if n == 0 {
		return Spread{}, false
	}
	s := slices.Sorted(slices.Values(samples))
	return Spread{Median: (s[(n-1)/2] + s[n/2]) / 2, Min: s[0], Max: s[n-1]}, true
}

// String writes the spread as "median [min–max]".
func (s Spread) String() string {
	return fmt.Sprintf("%s [%s–%s]", number(s.Median), number(s.Min), number(s.Max))
}

// number writes three digits or all before the point.
func number(v float64) string {
	digits := 2
	switch a := math.Abs(v); {
	case a >= 100:
		digits = 0
	case a >= 10:
		digits = 1
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}

// Quantile returns the duration below which the fraction q of the samples lies,
// in microseconds; 0 without samples. It sorts the samples.
func Quantile(samples []time.Duration, q float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	slices.SortFunc(samples, cmp.Compare[time.Duration])
	return Micros(samples[int(q*float64(len(samples)-1))])
}

// Micros is d in microseconds.
func Micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
