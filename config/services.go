package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"disc/discovery"
)

// services fills in the defaults of the file's services, checks them and adds them to the
// Config. The default id is "<service>-<node>".
func (c *checker) services(f *file) {
	first := map[string]int{} // line, by service and id
	for n, r := range f.services {
		path := fmt.Sprintf("services[%d]", n)
		s := serviceChecker{checker: c, file: f, path: path}
		if r.ID == "" && r.Service != "" {
			r.ID = r.Service + "-" + c.Node
		}
		if r.DeregisterAfter != nil {
			s.add(path+".deregister_after", "applies only to registrations over the API; remove it")
		}
		r = r.WithDefaults(c.Advertise, c.Zone)
		s.validate(r)
		line := f.lines[path]
		key := discovery.FoldName(r.Service) + "/" + r.ID
		if before, twice := first[key]; twice && r.Service != "" {
			s.add(path, fmt.Sprintf("%s/%s is already in line %d; give each its own id", r.Service, r.ID, before))
		} else {
			first[key] = line
		}
		c.Services = append(c.Services, r)
		c.serviceOrigins = append(c.serviceOrigins, f.at(line))
	}
}

// serviceChecker records the problems of one service with their lines.
type serviceChecker struct {
	*checker
	file *file
	path string
}

// add records the problem of a path, unless reading the file has found one there.
func (c serviceChecker) add(path, text string) {
	if !slices.ContainsFunc(c.file.problems, func(p problem) bool { return p.key == path }) {
		c.problems = append(c.problems, problem{c.file.at(c.file.lines[path]), path, text})
	}
}

func (c serviceChecker) validate(r discovery.Registration) {
	if r.Address == "" {
		r.Address = "127.0.0.1" // in place of the advertised address, which is not known yet
	}
	if err := r.Validate(); err != nil {
		for _, text := range flatten(err) {
			path, text := c.locate(text)
			c.add(path, text)
		}
	}
}

// locate returns the path that an error text refers to, and the text without it. The text
// may begin with "checks[0]: ", and then with a field, as in "port 70000 is out of range".
func (c serviceChecker) locate(text string) (path, rest string) {
	path = c.path
	if at, after, ok := strings.Cut(text, ": "); ok && c.has(path+"."+at) {
		path, text = path+"."+at, after
	}
	if field := path + "." + fieldOf(text); c.has(field) {
		path = field
	}
	return path, text
}

func (c serviceChecker) has(path string) bool {
	_, ok := c.file.lines[path]
	return ok
}

// fieldOf returns the field that an error of [discovery.Registration.Validate] refers to.
func fieldOf(text string) string {
	first, rest, _ := strings.Cut(text, " ")
	second, _, _ := strings.Cut(rest, " ")
	switch first {
	case "tag":
		return "tags"
	case "instance", "check":
		return second
	case "port":
		if _, err := strconv.Atoi(second); err != nil {
			return "ports"
		}
	}
	return first
}
