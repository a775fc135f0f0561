"""The structs of `pkg/apis/core/types.go` below a pod's template, a claim and a volume: how errors show them."""

from __future__ import annotations

from typing import Final

from podling.kinds.validation.fields import part
from podling.kinds.validation.internal import Structs
from podling.store.types import Object

_OF_THE_HOST: Final = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers")


def _pod_spec(spec: Object) -> Object:
    """Internally the security context has what the pod shares with its host."""
    shared = {key: spec.get(key) for key in _OF_THE_HOST}
    return {**spec, "securityContext": {**part(spec, "securityContext"), **shared}}


_DECLARED: Final = {
    "PodTemplateSpec": "+ObjectMeta Spec:PodSpec",
    "PodSpec": (
        "Volumes:[]Volume InitContainers:[]Container Containers:[]Container EphemeralContainers:[]EphemeralContainer "
        "RestartPolicy TerminationGracePeriodSeconds:*int ActiveDeadlineSeconds:*int DNSPolicy NodeSelector:{}string "
        "ServiceAccountName AutomountServiceAccountToken:*bool NodeName SecurityContext:*PodSecurityContext "
        "ImagePullSecrets:[]LocalObjectReference Hostname Subdomain SetHostnameAsFQDN:*bool Affinity:*Affinity "
        "SchedulerName Tolerations:[]Toleration HostAliases:[]HostAlias PriorityClassName Priority:*int "
        "PreemptionPolicy:*string DNSConfig:*PodDNSConfig ReadinessGates:[]PodReadinessGate RuntimeClassName:*string "
        "Overhead:{}quantity EnableServiceLinks:*bool TopologySpreadConstraints:[]TopologySpreadConstraint OS:*PodOS "
        "SchedulingGates:[]PodSchedulingGate ResourceClaims:[]PodResourceClaim Resources:*ResourceRequirements "
        "HostnameOverride:*string SchedulingGroup:*PodSchedulingGroup"
    ),
    "Volume": "Name +VolumeSource",
    "VolumeSource": (
        "HostPath:*HostPathVolumeSource EmptyDir:*EmptyDirVolumeSource "
        "GCEPersistentDisk:*GCEPersistentDiskVolumeSource AWSElasticBlockStore:*AWSElasticBlockStoreVolumeSource "
        "GitRepo:*GitRepoVolumeSource Secret:*SecretVolumeSource NFS:*NFSVolumeSource ISCSI:*ISCSIVolumeSource "
        "Glusterfs:*GlusterfsVolumeSource PersistentVolumeClaim:*PersistentVolumeClaimVolumeSource "
        "RBD:*RBDVolumeSource Quobyte:*QuobyteVolumeSource FlexVolume:*FlexVolumeSource Cinder:*CinderVolumeSource "
        "CephFS=cephfs:*CephFSVolumeSource Flocker:*FlockerVolumeSource DownwardAPI:*DownwardAPIVolumeSource "
        "FC:*FCVolumeSource AzureFile:*AzureFileVolumeSource ConfigMap:*ConfigMapVolumeSource "
        "VsphereVolume:*VsphereVirtualDiskVolumeSource AzureDisk:*AzureDiskVolumeSource "
        "PhotonPersistentDisk:*PhotonPersistentDiskVolumeSource Projected:*ProjectedVolumeSource "
        "PortworxVolume:*PortworxVolumeSource ScaleIO:*ScaleIOVolumeSource StorageOS=storageos:*StorageOSVolumeSource "
        "CSI:*CSIVolumeSource Ephemeral:*EphemeralVolumeSource Image:*ImageVolumeSource"
    ),
    "HostPathVolumeSource": "Path Type:*string",
    "EmptyDirVolumeSource": "Medium SizeLimit:*quantity",
    "GCEPersistentDiskVolumeSource": "PDName FSType Partition:int ReadOnly:bool",
    "AWSElasticBlockStoreVolumeSource": "VolumeID FSType Partition:int ReadOnly:bool",
    "GitRepoVolumeSource": "Repository Revision Directory",
    "SecretVolumeSource": "SecretName Items:[]KeyToPath DefaultMode:*int Optional:*bool",
    "KeyToPath": "Key Path Mode:*int",
    "NFSVolumeSource": "Server Path ReadOnly:bool",
    "ISCSIVolumeSource": (
        "TargetPortal IQN Lun:int ISCSIInterface FSType ReadOnly:bool Portals:[]string "
        "DiscoveryCHAPAuth=chapAuthDiscovery:bool SessionCHAPAuth=chapAuthSession:bool "
        "SecretRef:*LocalObjectReference InitiatorName:*string"
    ),
    "LocalObjectReference": "Name",
    "GlusterfsVolumeSource": "EndpointsName=endpoints Path ReadOnly:bool",
    "PersistentVolumeClaimVolumeSource": "ClaimName ReadOnly:bool",
    "RBDVolumeSource": (
        "CephMonitors=monitors:[]string RBDImage=image FSType RBDPool=pool RadosUser=user Keyring "
        "SecretRef:*LocalObjectReference ReadOnly:bool"
    ),
    "QuobyteVolumeSource": "Registry Volume ReadOnly:bool User Group Tenant",
    "FlexVolumeSource": "Driver FSType SecretRef:*LocalObjectReference ReadOnly:bool Options:{}string",
    "CinderVolumeSource": "VolumeID FSType ReadOnly:bool SecretRef:*LocalObjectReference",
    "CephFSVolumeSource": "Monitors:[]string Path User SecretFile SecretRef:*LocalObjectReference ReadOnly:bool",
    "FlockerVolumeSource": "DatasetName DatasetUUID",
    "DownwardAPIVolumeSource": "Items:[]DownwardAPIVolumeFile DefaultMode:*int",
    "DownwardAPIVolumeFile": "Path FieldRef:*ObjectFieldSelector ResourceFieldRef:*ResourceFieldSelector Mode:*int",
    "ObjectFieldSelector": "APIVersion FieldPath",
    "ResourceFieldSelector": "ContainerName Resource Divisor:quantity",
    "FCVolumeSource": "TargetWWNs:[]string Lun:*int FSType ReadOnly:bool WWIDs=wwids:[]string",
    "AzureFileVolumeSource": "SecretName ShareName ReadOnly:bool",
    "ConfigMapVolumeSource": "+LocalObjectReference Items:[]KeyToPath DefaultMode:*int Optional:*bool",
    "VsphereVirtualDiskVolumeSource": "VolumePath FSType StoragePolicyName StoragePolicyID",
    "AzureDiskVolumeSource": (
        "DiskName DataDiskURI=diskURI CachingMode:*string FSType:*string ReadOnly:*bool Kind:*string"
    ),
    "PhotonPersistentDiskVolumeSource": "PdID FSType",
    "ProjectedVolumeSource": "Sources:[]VolumeProjection DefaultMode:*int",
    "VolumeProjection": (
        "Secret:*SecretProjection DownwardAPI:*DownwardAPIProjection ConfigMap:*ConfigMapProjection "
        "ServiceAccountToken:*ServiceAccountTokenProjection ClusterTrustBundle:*ClusterTrustBundleProjection "
        "PodCertificate:*PodCertificateProjection"
    ),
    "SecretProjection": "+LocalObjectReference Items:[]KeyToPath Optional:*bool",
    "DownwardAPIProjection": "Items:[]DownwardAPIVolumeFile",
    "ConfigMapProjection": "+LocalObjectReference Items:[]KeyToPath Optional:*bool",
    "ServiceAccountTokenProjection": "Audience ExpirationSeconds:int Path",
    "ClusterTrustBundleProjection": "Name:*string SignerName:*string LabelSelector:*LabelSelector Optional:*bool Path",
    "PodCertificateProjection": (
        "SignerName KeyType MaxExpirationSeconds:*int CredentialBundlePath KeyPath CertificateChainPath "
        "UserAnnotations:{}string"
    ),
    "PortworxVolumeSource": "VolumeID FSType ReadOnly:bool",
    "ScaleIOVolumeSource": (
        "Gateway System SecretRef:*LocalObjectReference SSLEnabled:bool ProtectionDomain StoragePool StorageMode "
        "VolumeName FSType ReadOnly:bool"
    ),
    "StorageOSVolumeSource": "VolumeName VolumeNamespace FSType ReadOnly:bool SecretRef:*LocalObjectReference",
    "CSIVolumeSource": (
        "Driver ReadOnly:*bool FSType:*string VolumeAttributes:{}string NodePublishSecretRef:*LocalObjectReference"
    ),
    "EphemeralVolumeSource": "VolumeClaimTemplate:*PersistentVolumeClaimTemplate",
    "PersistentVolumeClaimTemplate": "+ObjectMeta Spec:PersistentVolumeClaimSpec",
    "PersistentVolumeClaimSpec": (
        "AccessModes:[]string Selector:*LabelSelector Resources:VolumeResourceRequirements VolumeName "
        "StorageClassName:*string VolumeMode:*string DataSource:*TypedLocalObjectReference "
        "DataSourceRef:*TypedObjectReference VolumeAttributesClassName:*string"
    ),
    "VolumeResourceRequirements": "Limits:{}quantity Requests:{}quantity",
    "TypedLocalObjectReference": "APIGroup:*string Kind Name",
    "TypedObjectReference": "APIGroup:*string Kind Name Namespace:*string",
    "ImageVolumeSource": "Reference PullPolicy",
    "Container": (
        "Name Image Command:[]string Args:[]string WorkingDir Ports:[]ContainerPort EnvFrom:[]EnvFromSource "
        "Env:[]EnvVar Resources:ResourceRequirements ResizePolicy:[]ContainerResizePolicy RestartPolicy:*string "
        "RestartPolicyRules:[]ContainerRestartRule VolumeMounts:[]VolumeMount VolumeDevices:[]VolumeDevice "
        "LivenessProbe:*Probe ReadinessProbe:*Probe StartupProbe:*Probe Lifecycle:*Lifecycle TerminationMessagePath "
        "TerminationMessagePolicy ImagePullPolicy SecurityContext:*SecurityContext Stdin:bool StdinOnce:bool TTY:bool"
    ),
    "ContainerPort": "Name HostPort:int ContainerPort:int Protocol HostIP",
    "EnvFromSource": "Prefix ConfigMapRef:*ConfigMapEnvSource SecretRef:*SecretEnvSource",
    "ConfigMapEnvSource": "+LocalObjectReference Optional:*bool",
    "SecretEnvSource": "+LocalObjectReference Optional:*bool",
    "EnvVar": "Name Value ValueFrom:*EnvVarSource",
    "EnvVarSource": (
        "FieldRef:*ObjectFieldSelector ResourceFieldRef:*ResourceFieldSelector ConfigMapKeyRef:*ConfigMapKeySelector "
        "SecretKeyRef:*SecretKeySelector FileKeyRef:*FileKeySelector"
    ),
    "ConfigMapKeySelector": "+LocalObjectReference Key Optional:*bool",
    "SecretKeySelector": "+LocalObjectReference Key Optional:*bool",
    "FileKeySelector": "VolumeName Path Key Optional:*bool",
    "ResourceRequirements": "Limits:{}quantity Requests:{}quantity Claims:[]ResourceClaim",
    "ResourceClaim": "Name Request",
    "ContainerResizePolicy": "ResourceName RestartPolicy",
    "ContainerRestartRule": "Action ExitCodes:*ContainerRestartRuleOnExitCodes",
    "ContainerRestartRuleOnExitCodes": "Operator Values:[]int",
    "VolumeMount": (
        "Name ReadOnly:bool RecursiveReadOnly:*string MountPath SubPath MountPropagation:*string SubPathExpr"
    ),
    "VolumeDevice": "Name DevicePath",
    "Probe": (
        "+ProbeHandler InitialDelaySeconds:int TimeoutSeconds:int PeriodSeconds:int SuccessThreshold:int "
        "FailureThreshold:int TerminationGracePeriodSeconds:*int"
    ),
    "ProbeHandler": "Exec:*ExecAction HTTPGet:*HTTPGetAction TCPSocket:*TCPSocketAction GRPC:*GRPCAction",
    "ExecAction": "Command:[]string",
    "HTTPGetAction": "Path Port:intstr Host Scheme HTTPHeaders:[]HTTPHeader",
    "HTTPHeader": "Name Value",
    "TCPSocketAction": "Port:intstr Host",
    "GRPCAction": "Port:int Service:*string",
    "Lifecycle": "PostStart:*LifecycleHandler PreStop:*LifecycleHandler StopSignal:*string",
    "LifecycleHandler": "Exec:*ExecAction HTTPGet:*HTTPGetAction TCPSocket:*TCPSocketAction Sleep:*SleepAction",
    "SleepAction": "Seconds:int",
    "SecurityContext": (
        "Capabilities:*Capabilities Privileged:*bool SELinuxOptions:*SELinuxOptions "
        "WindowsOptions:*WindowsSecurityContextOptions RunAsUser:*int RunAsGroup:*int RunAsNonRoot:*bool "
        "ReadOnlyRootFilesystem:*bool AllowPrivilegeEscalation:*bool ProcMount:*string SeccompProfile:*SeccompProfile "
        "AppArmorProfile:*AppArmorProfile"
    ),
    "Capabilities": "Add:[]string Drop:[]string",
    "SELinuxOptions": "User Role Type Level",
    "WindowsSecurityContextOptions": (
        "GMSACredentialSpecName:*string GMSACredentialSpec:*string RunAsUserName:*string HostProcess:*bool"
    ),
    "SeccompProfile": "Type LocalhostProfile:*string",
    "AppArmorProfile": "Type LocalhostProfile:*string",
    "EphemeralContainer": "+EphemeralContainerCommon TargetContainerName",
    "EphemeralContainerCommon": (
        "Name Image Command:[]string Args:[]string WorkingDir Ports:[]ContainerPort EnvFrom:[]EnvFromSource "
        "Env:[]EnvVar Resources:ResourceRequirements ResizePolicy:[]ContainerResizePolicy RestartPolicy:*string "
        "RestartPolicyRules:[]ContainerRestartRule VolumeMounts:[]VolumeMount VolumeDevices:[]VolumeDevice "
        "LivenessProbe:*Probe ReadinessProbe:*Probe StartupProbe:*Probe Lifecycle:*Lifecycle TerminationMessagePath "
        "TerminationMessagePolicy ImagePullPolicy SecurityContext:*SecurityContext Stdin:bool StdinOnce:bool TTY:bool"
    ),
    "PodSecurityContext": (
        "HostNetwork:bool HostPID:bool HostIPC:bool ShareProcessNamespace:*bool HostUsers:*bool "
        "SELinuxOptions:*SELinuxOptions WindowsOptions:*WindowsSecurityContextOptions RunAsUser:*int RunAsGroup:*int "
        "RunAsNonRoot:*bool SupplementalGroups:[]int SupplementalGroupsPolicy:*string FSGroup:*int "
        "FSGroupChangePolicy:*string Sysctls:[]Sysctl SeccompProfile:*SeccompProfile AppArmorProfile:*AppArmorProfile "
        "SELinuxChangePolicy:*string"
    ),
    "Sysctl": "Name Value",
    "Affinity": "NodeAffinity:*NodeAffinity PodAffinity:*PodAffinity PodAntiAffinity:*PodAntiAffinity",
    "NodeAffinity": (
        "RequiredDuringSchedulingIgnoredDuringExecution:*NodeSelector "
        "PreferredDuringSchedulingIgnoredDuringExecution:[]PreferredSchedulingTerm"
    ),
    "NodeSelector": "NodeSelectorTerms:[]NodeSelectorTerm",
    "NodeSelectorTerm": "MatchExpressions:[]NodeSelectorRequirement MatchFields:[]NodeSelectorRequirement",
    "NodeSelectorRequirement": "Key Operator Values:[]string",
    "PreferredSchedulingTerm": "Weight:int Preference:NodeSelectorTerm",
    "PodAffinity": (
        "RequiredDuringSchedulingIgnoredDuringExecution:[]PodAffinityTerm "
        "PreferredDuringSchedulingIgnoredDuringExecution:[]WeightedPodAffinityTerm"
    ),
    "PodAffinityTerm": (
        "LabelSelector:*LabelSelector Namespaces:[]string TopologyKey NamespaceSelector:*LabelSelector "
        "MatchLabelKeys:[]string MismatchLabelKeys:[]string"
    ),
    "WeightedPodAffinityTerm": "Weight:int PodAffinityTerm:PodAffinityTerm",
    "PodAntiAffinity": (
        "RequiredDuringSchedulingIgnoredDuringExecution:[]PodAffinityTerm "
        "PreferredDuringSchedulingIgnoredDuringExecution:[]WeightedPodAffinityTerm"
    ),
    "Toleration": "Key Operator Value Effect TolerationSeconds:*int",
    "HostAlias": "IP Hostnames:[]string",
    "PodDNSConfig": "Nameservers:[]string Searches:[]string Options:[]PodDNSConfigOption",
    "PodDNSConfigOption": "Name Value:*string",
    "PodReadinessGate": "ConditionType",
    "TopologySpreadConstraint": (
        "MaxSkew:int TopologyKey WhenUnsatisfiable LabelSelector:*LabelSelector MinDomains:*int "
        "NodeAffinityPolicy:*string NodeTaintsPolicy:*string MatchLabelKeys:[]string"
    ),
    "PodOS": "Name",
    "PodSchedulingGate": "Name",
    "PodResourceClaim": "Name ResourceClaimName:*string ResourceClaimTemplateName:*string",
    "PodSchedulingGroup": "PodGroupName:*string",
    "PersistentVolumeClaim": "+ObjectMeta Spec:PersistentVolumeClaimSpec Status:PersistentVolumeClaimStatus",
    "PersistentVolumeClaimStatus": (
        "Phase AccessModes:[]string Capacity:{}quantity Conditions:[]PersistentVolumeClaimCondition "
        "AllocatedResources:{}quantity AllocatedResourceStatuses:{}string CurrentVolumeAttributesClassName:*string "
        "ModifyVolumeStatus:*ModifyVolumeStatus"
    ),
    "PersistentVolumeClaimCondition": "Type Status LastProbeTime:time LastTransitionTime:time Reason Message",
    "ModifyVolumeStatus": "TargetVolumeAttributesClassName Status",
    "PersistentVolumeSource": (
        "GCEPersistentDisk:*GCEPersistentDiskVolumeSource AWSElasticBlockStore:*AWSElasticBlockStoreVolumeSource "
        "HostPath:*HostPathVolumeSource Glusterfs:*GlusterfsPersistentVolumeSource NFS:*NFSVolumeSource "
        "RBD:*RBDPersistentVolumeSource Quobyte:*QuobyteVolumeSource ISCSI:*ISCSIPersistentVolumeSource "
        "FlexVolume:*FlexPersistentVolumeSource Cinder:*CinderPersistentVolumeSource "
        "CephFS=cephfs:*CephFSPersistentVolumeSource FC:*FCVolumeSource Flocker:*FlockerVolumeSource "
        "AzureFile:*AzureFilePersistentVolumeSource VsphereVolume:*VsphereVirtualDiskVolumeSource "
        "AzureDisk:*AzureDiskVolumeSource PhotonPersistentDisk:*PhotonPersistentDiskVolumeSource "
        "PortworxVolume:*PortworxVolumeSource ScaleIO:*ScaleIOPersistentVolumeSource Local:*LocalVolumeSource "
        "StorageOS=storageos:*StorageOSPersistentVolumeSource CSI:*CSIPersistentVolumeSource"
    ),
    "GlusterfsPersistentVolumeSource": "EndpointsName=endpoints Path ReadOnly:bool EndpointsNamespace:*string",
    "RBDPersistentVolumeSource": (
        "CephMonitors=monitors:[]string RBDImage=image FSType RBDPool=pool RadosUser=user Keyring "
        "SecretRef:*SecretReference ReadOnly:bool"
    ),
    "SecretReference": "Name Namespace",
    "ISCSIPersistentVolumeSource": (
        "TargetPortal IQN Lun:int ISCSIInterface FSType ReadOnly:bool Portals:[]string "
        "DiscoveryCHAPAuth=chapAuthDiscovery:bool SessionCHAPAuth=chapAuthSession:bool SecretRef:*SecretReference "
        "InitiatorName:*string"
    ),
    "FlexPersistentVolumeSource": "Driver FSType SecretRef:*SecretReference ReadOnly:bool Options:{}string",
    "CinderPersistentVolumeSource": "VolumeID FSType ReadOnly:bool SecretRef:*SecretReference",
    "CephFSPersistentVolumeSource": "Monitors:[]string Path User SecretFile SecretRef:*SecretReference ReadOnly:bool",
    "AzureFilePersistentVolumeSource": "SecretName ShareName ReadOnly:bool SecretNamespace:*string",
    "ScaleIOPersistentVolumeSource": (
        "Gateway System SecretRef:*SecretReference SSLEnabled:bool ProtectionDomain StoragePool StorageMode "
        "VolumeName FSType ReadOnly:bool"
    ),
    "LocalVolumeSource": "Path FSType:*string",
    "StorageOSPersistentVolumeSource": "VolumeName VolumeNamespace FSType ReadOnly:bool SecretRef:*ObjectReference",
    "ObjectReference": "Kind Namespace Name UID APIVersion ResourceVersion FieldPath",
    "CSIPersistentVolumeSource": (
        "Driver VolumeHandle ReadOnly:bool FSType VolumeAttributes:{}string "
        "ControllerPublishSecretRef:*SecretReference NodeStageSecretRef:*SecretReference "
        "NodePublishSecretRef:*SecretReference ControllerExpandSecretRef:*SecretReference "
        "NodeExpandSecretRef:*SecretReference"
    ),
    "VolumeNodeAffinity": "Required:*NodeSelector",
}

STRUCTS: Final = Structs(_DECLARED, {"PodSpec": _pod_spec})
