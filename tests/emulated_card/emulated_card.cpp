// A CUDA device without hardware: tensors whose device is cuda:0, with memory and kernels of the processor.
//
// Every operator of ATen that reaches the device runs the processor's kernel on the same memory. The device is strict
// where a real one is: tensors of both devices in one operator are an error. Each launch and each wait of the host for
// the device is reported to a callback (card.py).
#include <ATen/EmptyTensor.h>
#include <ATen/core/List.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/_local_scalar_dense_native.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/FakeGuardImpl.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/library.h>

#include <map>
#include <mutex>
#include <set>

namespace c10::impl {
C10_REGISTER_GUARD_IMPL(CUDA, FakeGuardImpl<DeviceType::CUDA>)
}

namespace {

using Report = void (*)(const char* kind, const char* name);
Report callback = nullptr;

void report(const char* kind, const std::string& name) {
  if (callback) callback(kind, name.c_str());
}

// Allocates memory of the processor under the name of a device, and knows how much of it is in use.
struct Memory final : c10::Allocator {
  explicit Memory(c10::Device device) : device(device) {}

  c10::DataPtr allocate(size_t bytes) override {
    void* data = c10::alloc_cpu(bytes);
    if (data) {
      std::lock_guard<std::mutex> lock(mutex);
      blocks[data] = bytes;
      peak = std::max(peak, used += bytes);
    }
    return {data, data, raw_deleter(), device};
  }
  c10::DeleterFnPtr raw_deleter() const override {
    return device.is_cuda() ? &free_on_card : &free_pinned;
  }
  void copy_data(void* target, const void* source, std::size_t bytes) const override {
    default_copy_data(target, source, bytes);
  }
  bool contains(const void* data) {
    std::lock_guard<std::mutex> lock(mutex);
    auto next = blocks.upper_bound(const_cast<void*>(data));
    return next != blocks.begin() && data < static_cast<char*>((--next)->first) + next->second;
  }
  void release(void* data) {
    std::lock_guard<std::mutex> lock(mutex);
    used -= blocks[data];
    blocks.erase(data);
    c10::free_cpu(data);
  }
  static void free_on_card(void* data);
  static void free_pinned(void* data);

  c10::Device device;
  std::mutex mutex;
  std::map<void*, size_t> blocks;
  size_t used = 0, peak = 0;
};

// Never destroyed, because tensors may outlive the library's static objects.
Memory& card = *new Memory(c10::Device(c10::kCUDA, 0));
Memory& pinned = *new Memory(c10::Device(c10::kCPU));
void Memory::free_on_card(void* data) { card.release(data); }
void Memory::free_pinned(void* data) { pinned.release(data); }

// The processor's tensor over the memory of a tensor of the device; other tensors themselves.
at::Tensor on_host(const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.is_cuda()) return tensor;
  auto* data = const_cast<void*>(tensor.const_data_ptr());
  return at::from_blob(data, tensor.sizes(), tensor.strides(), tensor.options().device(c10::kCPU));
}

at::Tensor empty_strided(
    at::IntArrayRef sizes, at::IntArrayRef strides, std::optional<at::ScalarType> type, std::optional<at::Layout>,
    std::optional<at::Device>, std::optional<bool>) {
  return at::Tensor(at::detail::empty_strided_generic(
      sizes, strides, &card, c10::DispatchKeySet(c10::DispatchKey::CUDA), c10::dtype_or_default(type)));
}

at::Tensor empty(
    at::IntArrayRef sizes, std::optional<at::ScalarType> type, std::optional<at::Layout>, std::optional<at::Device>,
    std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::Tensor(at::detail::empty_generic(
      sizes, &card, c10::DispatchKeySet(c10::DispatchKey::CUDA), c10::dtype_or_default(type), format));
}

// The result of a processor's kernel as a tensor of the device.
at::Tensor on_card(const at::Tensor& tensor) {
  if (!tensor.defined() || tensor.is_cuda()) return tensor;
  at::Tensor copy =
      empty_strided(tensor.sizes(), tensor.strides(), tensor.scalar_type(), {}, {}, {});
  if (tensor.numel()) on_host(copy).copy_(tensor);
  return copy;
}

at::Tensor& copy_(at::Tensor& self, const at::Tensor& source, bool non_blocking) {
  if (self.is_cuda() && source.is_cuda()) {
    report("launch", self.scalar_type() == source.scalar_type() ? "aten::copy_" : "aten::copy_ to another type");
  } else {
    const auto& host = self.is_cuda() ? source : self;
    bool is_queued = non_blocking && pinned.contains(host.const_data_ptr());
    report(is_queued ? "transfer" : "wait", self.is_cuda() ? "copy to the device" : "copy to the host");
  }
  on_host(self).copy_(on_host(source));
  return self;
}

at::Scalar local_scalar(const at::Tensor& self) {
  report("wait", "aten::_local_scalar_dense");
  return at::native::_local_scalar_dense_cpu(on_host(self));
}

at::Tensor& set_storage(
    at::Tensor& self, at::Storage source, int64_t offset, at::IntArrayRef sizes, at::IntArrayRef strides) {
  return at::native::set_storage_cpu_(self, std::move(source), offset, sizes, strides);
}

// Operators whose result has a size that only the device knows, or that return a number.
const std::set<std::string> WAITS = {
    "aten::nonzero", "aten::masked_select", "aten::equal", "aten::_unique2", "aten::unique_dim",
    "aten::unique_consecutive", "aten::repeat_interleave", "aten::is_nonzero"};

bool is_index_operator(const std::string& name) { return name == "aten::index" || name == "aten::_index_put_impl_"; }

struct Call {
  std::string name;
  bool has_host_index = false, has_boolean_index = false;

  at::Tensor argument(const at::Tensor& tensor, bool is_index) {
    if (!tensor.defined()) return tensor;
    if (!tensor.is_cuda()) {
      TORCH_CHECK(
          tensor.dim() == 0 || is_index, "Expected all tensors to be on the same device, but ", name,
          " got tensors on cuda:0 and on cpu");
      has_host_index |= is_index;
    }
    has_boolean_index |= is_index && (tensor.scalar_type() == at::kBool || tensor.scalar_type() == at::kByte);
    return on_host(tensor);
  }
};

// Runs the processor's kernel of any operator.
void run_on_processor(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  Call call{op.operator_name().name};
  const auto count = schema.arguments().size();
  std::vector<c10::IValue> originals(stack->end() - count, stack->end());
  std::vector<std::pair<at::Tensor, at::Tensor>> outputs;  // empty tensors that the operator resizes
  for (size_t i = 0; i < count; ++i) {
    auto& value = (*stack)[stack->size() - count + i];
    const auto* alias = schema.arguments()[i].alias_info();
    if (value.isTensor() && alias && alias->isWrite() && !value.toTensor().numel()) {
      outputs.emplace_back(value.toTensor(), at::empty({0}, value.toTensor().options().device(c10::kCPU)));
      value = outputs.back().second;
    } else if (value.isTensor()) {
      value = call.argument(value.toTensor(), false);
    } else if (value.isTensorList()) {
      std::vector<at::Tensor> tensors;
      for (const at::Tensor& tensor : value.toTensorVector()) tensors.push_back(call.argument(tensor, false));
      value = tensors;
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> tensors;
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector()) {
        tensors.push_back(tensor ? std::optional<at::Tensor>(call.argument(*tensor, is_index_operator(call.name)))
                                 : std::nullopt);
      }
      value = tensors;
    } else if (value.isDevice()) {
      value = c10::Device(c10::kCPU);
    } else if (value.isGenerator()) {
      TORCH_CHECK(false, "Expected a 'cuda' device type for generator but found 'cpu' in ", call.name);
    }
  }
  report("launch", call.name);
  if (call.has_host_index || call.has_boolean_index || WAITS.count(call.name)) report("wait", call.name);
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  for (auto& [target, result] : outputs) {
    if (result.numel()) on_host(at::native::resize_(target, result.sizes())).copy_(result);
  }

  const auto& returns = schema.returns();
  for (size_t i = 0; i < returns.size(); ++i) {
    auto& value = (*stack)[stack->size() - returns.size() + i];
    const auto* alias = returns[i].alias_info();
    if (alias && alias->isWrite()) {
      for (size_t j = 0; j < count; ++j) {
        const auto* other = schema.arguments()[j].alias_info();
        if (other && *other == *alias) value = originals[j];
      }
    } else if (value.isTensor()) {
      TORCH_CHECK(!alias, call.name, " returns a view, which the emulated card does not support");
      value = on_card(value.toTensor());
    } else if (value.isTensorList()) {
      std::vector<at::Tensor> tensors;
      for (const at::Tensor& tensor : value.toTensorVector()) tensors.push_back(on_card(tensor));
      value = tensors;
    }
  }
}

}  // namespace

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_processor>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("copy_", &copy_);
  m.impl("_local_scalar_dense", &local_scalar);
  m.impl("as_strided", &at::native::as_strided_tensorimpl);
  m.impl("view", &at::native::view);
  m.impl("_reshape_alias", &at::native::_reshape_alias);
  m.impl("unfold", &at::native::unfold);
  m.impl("resize_", &at::native::resize_);
  m.impl("set_.source_Storage_storage_offset", &set_storage);
}

namespace at {
// PyTorch creates the hooks by this name.
struct CUDAHooks : public CUDAHooksInterface {
  explicit CUDAHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  int getNumGPUs() const override { return 1; }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex current_device() const override { return 0; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(DeviceIndex) const override {}
  DeviceIndex exchangeDevice(DeviceIndex) const override { return 0; }
  DeviceIndex maybeExchangeDevice(DeviceIndex) const override { return 0; }
  bool isPinnedPtr(const void* data) const override { return pinned.contains(data); }
  Allocator* getPinnedMemoryAllocator() const override { return &pinned; }
};
REGISTER_CUDA_HOOKS(CUDAHooks)
}  // namespace at

extern "C" {
void card_set_callback(Report value) { callback = value; }
size_t card_used_bytes() { return card.used; }
size_t card_peak_bytes() { return card.peak; }
void card_reset_peak() { card.peak = card.used; }
}
