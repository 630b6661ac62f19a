# What the Vagrantfile makes of the lab, as Vagrant resolves it for a provider: JSON, a machine each.
#
#     ruby machines.rb DIRECTORY PROVIDER

require "json"
require "ostruct"
require "vagrant"

# VirtualBox is told by commands.
def modified(size, option)
  size.customizations.map(&:last).find { |words| words.include?(option) }.last.to_i
end

directory, provider = ARGV
environment = Vagrant::Environment.new(cwd: directory, ui_class: Vagrant::UI::Silent)
machines = environment.machine_names.to_h do |name|
  config = environment.vagrantfile.machine_config(name, provider.to_sym, environment.boxes)[:config]
  size = config.vm.get_provider_config(provider.to_sym)
  size = OpenStruct.new(cpus: modified(size, "--cpus"), memory: modified(size, "--memory")) if provider == "virtualbox"
  cards = config.vm.networks.filter_map { |kind, options| options if kind == :private_network }
  [name, {
    box: config.vm.box, cpus: size.cpus, memory: size.memory, cards: cards,
    driver: (size.driver if provider == "libvirt"),
    provisioners: config.vm.provisioners.map { |it| [it.type, it.config.respond_to?(:args) ? it.config.args : nil] },
  }]
end
puts JSON.generate(machines)
