package lookup

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxNearest is the most names that an error suggests.
const MaxNearest = 3

// Nearest returns the names that are most like a typed one, at most [MaxNearest], the nearest first:
// those that differ in few letters or go on where it ends.
func Nearest(typed string, names []string) []string {
	type candidate struct {
		name     string
		distance int
	}
	var near []candidate
	typed = strings.ToLower(typed)
	letters := []rune(typed)
	for _, name := range names {
		lower := strings.ToLower(name)
		apart := utf8.RuneCountInString(lower) - len(letters)
		if len(typed) > 1 && strings.HasPrefix(lower, typed) {
			near = append(near, candidate{name, apart})
			continue
		}
		most := max(1, min(len(typed), len(name))/3)
		if max(apart, -apart) > most {
			continue // it differs in length alone by more
		}
		if d := editDistance(letters, []rune(lower), most); d <= most {
			near = append(near, candidate{name, d})
		}
	}
	slices.SortStableFunc(near, func(x, y candidate) int {
		return cmp.Or(cmp.Compare(x.distance, y.distance), strings.Compare(x.name, y.name))
	})
	var all []string
	for _, c := range slices.CompactFunc(near, func(x, y candidate) bool { return x.name == y.name }) {
		all = append(all, c.name)
	}
	return all[:min(len(all), MaxNearest)]
}

// DidYouMean returns the end of an error that suggests names, quoted; "" without any.
func DidYouMean(names []string) string {
	quoted := make([]string, len(names))
	for n, name := range names {
		quoted[n] = strconv.Quote(name)
	}
	return Suggest(quoted)
}

// Suggest is [DidYouMean] for what is quoted already.
func Suggest(names []string) string {
	switch last := len(names) - 1; last {
	case -1:
		return ""
	case 0:
		return "; did you mean " + names[0] + "?"
	default:
		return "; did you mean " + strings.Join(names[:last], ", ") + " or " + names[last] + "?"
	}
}

// editDistance returns the number of letters to insert, remove, replace, or swap with the next,
// that makes one text of another. It gives up at more than most, and returns any such number then.
func editDistance(x, y []rune, most int) int {
	for len(x) > 0 && len(y) > 0 && x[0] == y[0] {
		x, y = x[1:], y[1:]
	}
	for len(x) > 0 && len(y) > 0 && x[len(x)-1] == y[len(y)-1] {
		x, y = x[:len(x)-1], y[:len(y)-1]
	}
	rows := [3][]int{make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := range x {
		before, above, row := rows[0], rows[1], rows[2]
		row[0] = i + 1
		for j := range y {
			replace := 1
			if x[i] == y[j] {
				replace = 0
			}
			row[j+1] = min(above[j+1]+1, row[j]+1, above[j]+replace)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		if slices.Min(row) > most && slices.Min(above) > most {
			return most + 1 // no row below has less than the two above it
		}
		rows = [3][]int{above, row, before}
	}
	return rows[1][len(y)]
}
