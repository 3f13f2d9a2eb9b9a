package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"disc/discovery"
)

// services fills in the defaults of the file's services, checks them and adds them to the
// Config. The default id is "<service>-<node>".
func (c *checker) services() {
	first := map[string]int{} // line, by service and id
	for n, r := range c.file.services {
		path := fmt.Sprintf("services[%d]", n)
		add := func(path, text string) { // unless reading the file has found a problem there
			if !slices.ContainsFunc(c.read, func(p problem) bool { return p.key == path }) {
				c.problems = append(c.problems, problem{c.at(c.lines[path]), path, text})
			}
		}
		if r.ID == "" && r.Service != "" {
			r.ID = r.Service + "-" + c.Node
		}
		if r.DeregisterAfter != nil {
			add(path+".deregister_after", "applies only to registrations over the API; remove it")
		}
		r = r.WithDefaults(c.Advertise, c.Zone)
		complete := r
		complete.Address = cmp.Or(r.Address, "127.0.0.1") // in place of the advertised address, which is not known yet
		for _, text := range flatten(complete.Validate()) {
			add(c.locate(path, text))
		}
		line := c.lines[path]
		key := discovery.FoldName(r.Service) + "/" + r.ID
		if before, twice := first[key]; twice && r.Service != "" {
			add(path, fmt.Sprintf("%s/%s is already in line %d; give each its own id", r.Service, r.ID, before))
		} else {
			first[key] = line
		}
		c.caFiles(path, r)
		c.Services = append(c.Services, r)
		c.serviceOrigins = append(c.serviceOrigins, c.at(line))
	}
}

// caFiles records where the checks of a service name files of CA certificates.
func (c *checker) caFiles(service string, r discovery.Registration) {
	for n, check := range r.Checks {
		if path := caPath(service, n); check.CAFile() != "" {
			if c.caOrigins == nil {
				c.caOrigins = map[string]origin{}
			}
			c.caOrigins[path] = c.at(c.lines[path])
		}
	}
}

// caPath returns the path of the field ca of a check, given that of its service.
func caPath(service string, check int) string { return fmt.Sprintf("%s.checks[%d].ca", service, check) }

// locate returns the path of the field in service that an error text refers to, and the text
// without it. The text may begin with "checks[0]: ", and then with a field, as in "port
// 70000 is out of range".
func (c *checker) locate(service, text string) (path, rest string) {
	path = service
	if at, after, ok := strings.Cut(text, ": "); ok && c.lines[path+"."+at] > 0 {
		path, text = path+"."+at, after
	}
	if field := path + "." + fieldOf(text); c.lines[field] > 0 {
		path = field
	}
	return path, text
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
